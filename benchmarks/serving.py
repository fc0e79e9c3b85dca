"""Measure the policy server on each kind of tables, beside uvicorn with the arithmetic alone.

    python benchmarks/serving.py [--seconds 5] [--rounds 3] [--connections 8]

`wrk` asks each server in turn, round by round, so that what else the machine does hits all alike.
Servers and `wrk` share its processors: what counts are the ratios of one run.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("api", "models", "records", "server_image", "tests")
for folder in FOLDERS:
    sys.path.insert(0, str(REPO / folder))

from postgres import postgres  # noqa: E402

from models import golden  # noqa: E402

KINDS = ("QNetwork", "Classifier", "OfferPolicy", "PlanPreference")
READY_SECONDS = 60
LUA = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%f\\n",
    latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    summary.requests / summary.duration * 1e6))
end
"""


@dataclass
class Server:
    """One that is asked, and what was measured of it."""

    name: str
    port: int
    pid: int
    ready_seconds: float
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)  # ms
    rate: list[float] = field(default_factory=list)  # answers a second
    failed: int = 0
    memory: float = 0.0  # MiB, resident, at the end

    def weigh(self) -> None:
        """Look at its memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        self.memory = int(line.split()[1]) / 1024


@contextmanager
def running(name: str, command: list[str], env: dict[str, str], path: str) -> Iterator[Server]:
    """Start a server, and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [word.replace("PORT", str(port)) for word in command]
    told = {**os.environ, **env, "PORT": str(port), "PYTHONPATH": os.pathsep.join(sys.path)}
    began = time.monotonic()
    process = subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                    break
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # loading
                    raise
            except OSError:
                assert process.poll() is None, f"{name} has ended"
            assert time.monotonic() < began + READY_SECONDS, f"{name} is not ready"
            time.sleep(0.01)
        yield Server(name, port, process.pid, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait()


def ours(name: str, kind: str, scratch: Path, url: str | None) -> AbstractContextManager[Server]:
    """Return our server on the golden artifact of a kind, with a log where there is a URL."""
    folder = golden.FOLDER / kind
    manifest = (folder / "policy.json").read_bytes()
    made = json.loads(manifest)
    place = scratch / name.replace(" ", "-")
    place.mkdir()
    env = {
        "POLICY_ARTIFACT_PATH": str(folder),
        "POLICY_ARTIFACT_SHA256": sha256(manifest).hexdigest(),
        "POLICY_NAME": made["policy"],
        "POLICY_VERSION": str(made["version"]),
        "HOST": "127.0.0.1",
        "DRAIN_SECONDS": "0",
        "DOWNLOAD_FOLDER": str(place),
    }
    if url is not None:
        (place / "url").write_text(url)
        env |= {
            "DECISION_LOG_URL_FILE": str(place / "url"),
            "DECISION_LOG_SPOOL": str(place / "spool"),
            "POLICY_NAMESPACE": "bench",
            "POLICY_DEPLOYMENT": name.replace(" ", "-"),
        }
    return running(name, [sys.executable, "-m", "policy_server"], env, "/readyz")


def ask(server: Server, script: Path, seconds: int, connections: int) -> None:
    """Ask a server for so many seconds, and keep what was measured."""
    path = "" if server.name == "bare" else "/v1/decisions"
    made = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--script", str(script)),
            f"http://127.0.0.1:{server.port}{path or '/'}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in made.stdout.splitlines() if line.startswith("RESULT"))
    p50, p99, failed, rate = line.split()[1:]
    server.p50.append(int(p50) / 1000)
    server.p99.append(int(p99) / 1000)
    server.rate.append(float(rate))
    server.failed += int(failed)


def measure(kind: str, options: argparse.Namespace, database: str) -> list[Server]:
    """Measure one kind: the floor, ours, and ours with a log in SQLite and in PostgreSQL."""
    request = next(pair["request"] for pair in golden.kept(kind) if "code" not in pair["answer"])
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        place = Path(scratch)
        script = place / "ask.lua"
        script.write_text(LUA % json.dumps(request))
        bare = [sys.executable, str(REPO / "benchmarks/bare.py"), kind, str(golden.FOLDER / kind)]
        wanted = [
            running("bare", [*bare, "PORT"], {}, "/"),
            ours("no log", kind, place, None),
            ours("SQLite", kind, place, str(place / "log.sqlite3")),
            ours("PostgreSQL", kind, place, database),
        ]
        servers = [stack.enter_context(one) for one in wanted]
        for server in servers:
            ask(server, script, 1, options.connections)  # warm
            for kept in (server.p50, server.p99, server.rate):
                kept.clear()
        for _ in range(options.rounds):
            for server in servers:
                ask(server, script, options.seconds, options.connections)
        for server in servers:
            server.weigh()
    return servers


def table(kind: str, servers: list[Server]) -> list[str]:
    """Return lines of a table: medians of the rounds, and ratios to the floor."""
    floor = servers[0]
    lines = []
    for server in servers:
        p50, p99, rate = (statistics.median(v) for v in (server.p50, server.p99, server.rate))
        ratio99 = p99 / statistics.median(floor.p99)
        ratio = rate / statistics.median(floor.rate)
        lines.append(
            f"| {kind} | {server.name} | {p50:.2f} | {p99:.2f} | {rate:,.0f} | {ratio99:.2f} | "
            f"{ratio:.2f} | {server.ready_seconds:.2f} | "
            f"{server.memory:.0f} | {server.failed} |"
        )
    return lines


def main() -> int:
    """Measure, print, and write RESULTS-serving.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.stderr.write("this asks with wrk: apt-get install wrk\n")
        return 2
    columns = ("kind", "server", "p50 ms", "p99 ms", "answers/s", "p99 / bare", "rate / bare")
    columns += ("ready s", "MiB", "failed")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    with postgres() as running_postgres:
        for kind in options.kinds:
            found = table(kind, measure(kind, options, running_postgres.database()))
            print(*found, sep="\n", flush=True)
            lines += found
    head = (
        "# Serving, beside uvicorn with the arithmetic alone\n\n"
        f"`make bench-serving`: wrk, {options.connections} connections, medians of "
        f"{options.rounds} rounds of {options.seconds} s, {os.cpu_count()} processors that the "
        "servers, wrk and PostgreSQL share.\n\n"
    )
    text = head + "\n".join(lines) + "\n"
    (REPO / "benchmarks" / "RESULTS-serving.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
