"""A budget that stops a training, and lets it go on when it is raised; a second costs a dollar."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.client import Api, condition, run_config, until
from integration.kubelet import Kubelet
from integration.objects import completed, training

Obj = dict[str, Any]
PRICE = {"usdPerCPUHour": 3600, "estimatedUSD": 2000}
pytestmark = pytest.mark.usefixtures("operator", "node")


def deadline(pod: Obj) -> int:
    """Return how long the kubelet lets a pod run."""
    seconds: int = pod["spec"]["activeDeadlineSeconds"]
    return seconds


def test_it_stops_a_training_which_goes_on_when_it_is_raised(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, budget={**PRICE, "maxUSD": 4}))
    (first,) = kubelet.run("forge-0")
    assert deadline(first) == 4
    ended = status("BudgetExceeded")
    verdict = condition({"status": ended}, "Succeeded")
    assert verdict["status"] == "False"
    assert "USD in 1 attempt use up budget.maxUSD 4; raise it, and" in verdict["message"]
    until("its pods are stopped", lambda: api.list("Pod", namespace) == [])
    assert ended["attempts"][0]["reason"] == "Suspended"  # with a checkpoint, by SIGTERM
    spent = ended["cost"]["runSeconds"]
    assert ended["cost"] == {
        "runSeconds": spent,
        "gpuSeconds": 0,
        "cpuSeconds": spent,
        "usd": spent,
        "estimatedUSD": 2000,
    }
    assert spent >= 4

    api.patch("PolicyTraining", namespace, "forge", {"spec": {"budget": {"maxUSD": 1000}}})
    (second,) = kubelet.run("forge-1")
    running = status("Training")
    assert "finishedAt" not in running
    assert deadline(second) == 1000 - spent
    assert run_config(api, namespace, "forge-1").spent_seconds == spent

    kubelet.end("forge-1", 0, completed(1))
    done = status("Succeeded")
    assert done["cost"]["runSeconds"] == sum(a["runSeconds"] for a in done["attempts"])
    assert api.get("PolicyVersion", namespace, "forge-v1")["spec"]["cost"] == done["cost"]


def test_what_the_kubelet_ended_goes_on_if_the_budget_was_raised_meanwhile(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    # The spec says nothing of CPUs: the namespace gives each container two, which are paid for.
    twice = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "defaults"},
        "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "2"}}]},
    }
    api.call("POST", f"/api/v1/namespaces/{namespace}/limitranges", twice)
    api.create(training(namespace, budget={**PRICE, "maxUSD": 1000}))
    (pod,) = kubelet.run("forge-0")
    (attempt,) = status("Training")["attempts"]
    assert (attempt["cpus"], attempt["gpus"]) == (2, 0)
    api.patch_status(
        "Pod",
        namespace,
        pod["metadata"]["name"],
        {
            "phase": "Failed",
            "reason": "DeadlineExceeded",
            "message": "Pod was active on the node longer than the specified deadline",
        },
    )
    kubelet.run("forge-1")
    running = status("Training")
    (first, second) = running["attempts"]
    assert (first["reason"], second["index"]) == ("BudgetExceeded", 1)
    assert running["cost"]["usd"] == running["cost"]["cpuSeconds"] == 2 * first["runSeconds"]
