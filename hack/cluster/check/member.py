"""One of two pods of the check: they meet by name, share a volume, and ask through the gateway."""

import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

DEADLINE = time.monotonic() + 80
PORT = 29500
RANK = int(os.environ["RANK"])
Answer = TypeVar("Answer")


def eventually(what: str, attempt: Callable[[], Answer]) -> Answer:
    """Try until it works; names, files and routes take a moment to be seen."""
    while True:
        try:
            return attempt()
        except (OSError, LookupError) as error:
            if time.monotonic() > DEADLINE:
                raise SystemExit(f"{what}: {error!r}") from error
            time.sleep(0.2)


def fetch(url: str, host: str = "") -> bytes:
    """The body behind a URL, with another Host header where the route asks for one."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return bytes(answer.read())


def listen() -> str:
    """Rank 0 waits for its peer."""
    with socket.create_server(("0.0.0.0", PORT)) as server:
        server.settimeout(80)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"met")
    return "met"


def connect() -> str:
    """Rank 1 finds rank 0 by the name that torchrun would use."""
    with socket.create_connection(("pair-0.pair", PORT), timeout=5) as connection:
        return connection.recv(3).decode()


def read_peer() -> str:
    """What the other pod wrote into the shared volume."""
    content = Path(f"/shared/{1 - RANK}").read_text()
    if not content:
        raise LookupError("the file is still empty")
    return content


def targets() -> dict[str, str]:
    """The health of each Prometheus target by its pod, once all were scraped."""
    found = json.loads(fetch("http://prometheus.monitoring.svc:9090/api/v1/targets"))
    active = {t["labels"]["pod"]: t["health"] for t in found["data"]["activeTargets"]}
    envoy = [health for pod, health in active.items() if pod.startswith("envoy-")]
    if envoy != ["up"]:
        raise LookupError(f"Envoy is not up in {active}")
    return active


results: dict[str, object] = {}
results["rendezvous"] = listen() if RANK == 0 else eventually("pair-0.pair", connect)
Path(f"/shared/{RANK}").write_text(f"written by {RANK}")
results["volume"] = eventually("the shared volume", read_peer)
page = eventually(
    "the route", lambda: fetch("http://envoy.projectcontour.svc/", "check.policyops.local")
)
results["route"] = f"{len(page)} bytes"
results["targets"] = eventually("Prometheus", targets)
status = eventually(
    "Alertmanager", lambda: fetch("http://alertmanager.monitoring.svc:9093/api/v2/status")
)
results["alertmanager"] = json.loads(status)["versionInfo"]["version"]
print(json.dumps(results))
