"""The operator as a real process: started, asked for its health, killed, started again."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from integration.client import until

REPO = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
# An operator that outlives a killed test run would write into the next one's API server.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OperatorProcess:
    """One operator. Ports stay the same over a restart, so that its URL does."""

    def __init__(
        self, kubeconfig: Path, namespace: str, folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.namespace = namespace
        self.http_port, self.https_port = free_port(), free_port()
        self.log = folder / "operator.log"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
            "PYTHONPATH": os.pathsep.join((str(REPO / "api"), str(REPO / "operator"))),
            "KUBECONFIG": str(kubeconfig),
            "POLICYOPS_NAMESPACE": namespace,
            "POD_NAME": "operator-0",
            "POLICYOPS_LABEL_POD": "false",
            "POLICYOPS_LEADER_ELECT": "false",
            "POLICYOPS_BIND": "127.0.0.1",
            "POLICYOPS_HTTP_PORT": str(self.http_port),
            "POLICYOPS_HTTPS_PORT": str(self.https_port),
            "POLICYOPS_SERVICE_HOST": "127.0.0.1",
            "POLICYOPS_SERVICE_PORT": str(self.https_port),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The HTTPS address of progress and alerts."""
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, without waiting."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_DIE_WITH_PARENT, sys.executable, "-m", "policy_operator.main"],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until /readyz says so; an operator that ended shows its log."""

        def ready() -> bool:
            if not self.running():
                raise RuntimeError(f"the operator ended:\n{self.tail()}")
            try:
                answer = httpx.get(f"http://127.0.0.1:{self.http_port}/readyz", trust_env=False)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        until("operator is ready", ready, seconds=START_SECONDS, show=self.tail)

    def metrics(self) -> dict[str, float]:
        """Return what /metrics says, by name with labels."""
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        lines = httpx.get(url, trust_env=False).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def rss(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def tracebacks(self) -> str:
        """Return the log from its first traceback on; empty when there is none."""
        text = self.log.read_text(errors="replace")
        start = text.find("\nTraceback (most recent call last)")
        return "" if start < 0 else text[max(0, start - 500) : start + 4000]

    def kill(self) -> None:
        """SIGKILL: nothing of it runs on, no connection is closed in order."""
        assert self._process is not None
        if self.running():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, as the kubelet does; one that does not end fails the test."""
        if self._process is None or not self.running():
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator ignored SIGTERM:\n{self.tail()}") from None
