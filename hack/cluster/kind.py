"""kind: the cluster of a machine with a Docker engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from console import ClusterError, say, timed
from settings import BIN_KIND, CACHE, HERE, KIND_MODULE, KUBECONFIG, RUN, VOLUMES
from template import render

NAME = "policyops"
VOLUMES_IN_NODE = "/var/lib/policyops-volumes"


def program() -> Path:
    """The kind program: the one on PATH, else built by Go into the cache."""
    found = shutil.which("kind")
    if found:
        return Path(found)
    built = BIN_KIND / "kind"
    if not built.exists():
        with timed("kind", f"go install {KIND_MODULE}"):
            _run(["go", "install", KIND_MODULE], {"GOBIN": str(BIN_KIND)})
    return built


def start() -> None:
    """Create the cluster unless it is there, and publish its kubeconfig."""
    kind = str(program())
    if NAME not in _run([kind, "get", "clusters"]).split():
        VOLUMES.mkdir(parents=True, exist_ok=True)
        config = RUN / "kind.yaml"
        config.write_text(render(HERE / "kind" / "cluster.yaml", {"VOLUMES": str(VOLUMES)}))
        with timed("kind", "creating the cluster"):
            create = [kind, "create", "cluster", "--name", NAME, "--config", str(config)]
            _run([*create, "--kubeconfig", str(KUBECONFIG), "--wait", "180s"])
    _run([kind, "export", "kubeconfig", "--name", NAME, "--kubeconfig", str(KUBECONFIG)])


def stop() -> None:
    """Delete the cluster and its volumes."""
    # Pods wrote the volumes as root or as a user of theirs, so the node has to empty them.
    empty = f"rm -rf {VOLUMES_IN_NODE}/*"
    node = f"{NAME}-control-plane"
    subprocess.run(["docker", "exec", node, "sh", "-c", empty], capture_output=True, check=False)
    _run([str(program()), "delete", "cluster", "--name", NAME, "--kubeconfig", str(KUBECONFIG)])
    shutil.rmtree(RUN, ignore_errors=True)
    KUBECONFIG.unlink(missing_ok=True)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    log = CACHE / "logs" / "kind.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        result = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        say("kind", f"failed: {' '.join(command)}")
        raise ClusterError(f"{' '.join(command[:3])} exited {result.returncode}.", log)
    return result.stdout
