"""`check`: proves on the running cluster what the product relies on, and removes its traces.

Two pods of an Indexed Job find each other by name, share a volume, reach a server through Gateway
and HTTPRoute, and see Prometheus' targets and Alertmanager.
"""

from __future__ import annotations

import json

import addons
from console import ClusterError, say, timed, wait_for
from controlplane import kubectl
from settings import HERE, KUBECONFIG

_NAMESPACE = "policyops-check"
_SOURCES = HERE / "check"


def run() -> None:
    """Run the check. Raises ClusterError with what the pods said when something does not work."""
    _remove()
    try:
        with timed("check", "names, volume, route, Prometheus, Alertmanager"):
            kubectl(KUBECONFIG, "create", "namespace", _NAMESPACE)
            kubectl(
                KUBECONFIG,
                *("create", "configmap", "member", "-n", _NAMESPACE),
                f"--from-file={_SOURCES / 'member.py'}",
            )
            kubectl(
                KUBECONFIG,
                *("apply", "--server-side", "--force-conflicts", "-f"),
                str(_SOURCES / "check.yaml"),
            )
            wait_for("the pair of pods has ended", _ended, timeout=120, step="check", every=0.5)
        for line in _logs().splitlines():
            say("check", line)
        if not _succeeded():
            raise ClusterError(f"The check failed. Its pods said:\n{_logs()}{_pods()}")
    finally:
        _remove()
        addons.free_released_volumes()


def _remove() -> None:
    kubectl(
        KUBECONFIG,
        *("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--timeout=60s"),
    )


def _status() -> dict[str, int]:
    job = json.loads(kubectl(KUBECONFIG, "get", "job", "pair", "-n", _NAMESPACE, "-o", "json"))
    return dict(job.get("status", {}))


def _succeeded() -> bool:
    return _status().get("succeeded") == len(("first", "second"))


def _ended() -> bool:
    return _succeeded() or bool(_status().get("failed"))


def _logs() -> str:
    return kubectl(KUBECONFIG, "logs", "-n", _NAMESPACE, "-l", "job-name=pair", "--tail=20")


def _pods() -> str:
    return kubectl(KUBECONFIG, "get", "pods", "-n", _NAMESPACE, "-o", "wide")
