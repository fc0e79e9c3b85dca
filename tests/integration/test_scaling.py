"""The number of pods with a real API server: it is played that an autoscaler works."""

from typing import Any

import pytest
from integration.client import Api, condition, until
from integration.rollout import Rollout

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node", "gateway")

BUDGET, SCALER = "PodDisruptionBudget", "HorizontalPodAutoscaler"
SCALED: Obj = {
    "resources": {"requests": {"cpu": "10m"}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 6},
}


@pytest.fixture
def rollout(api: Api, namespace: str) -> Rollout:
    """The test's PolicyDeployment, not created yet."""
    return Rollout(api, namespace)


def replicas(api: Api, namespace: str, version: int = 1) -> int:
    """Return how many pods a version's Deployment wants."""
    found: int = api.get("Deployment", namespace, f"forge-v{version}")["spec"]["replicas"]
    return found


def scale(api: Api, namespace: str, number: int) -> None:
    """Scale version 1 as an autoscaler does, and wait until the pods are there."""
    api.patch("Deployment", namespace, "forge-v1", {"spec": {"replicas": number}}, sub="scale")
    until(
        f"{number} pods are ready",
        lambda: (
            api.get("Deployment", namespace, "forge-v1")["status"].get("readyReplicas") == number
        ),
    )


def test_what_an_autoscaler_sets_stays(api: Api, namespace: str, rollout: Rollout) -> None:
    rollout.serve(1, server=SCALED)
    assert replicas(api, namespace) == 2
    scaler = api.get(SCALER, namespace, "forge-v1")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 6)
    assert api.get(BUDGET, namespace, "forge-v1")["spec"]["maxUnavailable"] == 1
    scale(api, namespace, 5)
    # The operator writes the Deployment, and the number stays.
    requests = {"requests": {"cpu": "20m"}}
    rollout.edit({"spec": {"server": {"resources": requests}}})

    def written() -> bool:
        pod = api.get("Deployment", namespace, "forge-v1")["spec"]["template"]["spec"]
        return bool(pod["containers"][0]["resources"] == requests)

    until("the pods are made anew", written)
    assert replicas(api, namespace) == 5
    # So it does through a rollout, for as long as the version may be needed again.
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Promoted", stable=2)
    api.gone(SCALER, namespace, "forge-v1")
    assert replicas(api, namespace) == 5
    assert api.find(SCALER, namespace, "forge-v2") is not None


def test_without_an_autoscaler_the_number_is_the_users(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1, server={"replicas": 3})
    assert api.find(BUDGET, namespace, "forge-v1") is not None
    scale_up = {"spec": {"replicas": 4}}
    api.patch("Deployment", namespace, "forge-v1", scale_up, sub="scale")
    until("it is put right", lambda: replicas(api, namespace) == 3)
    rollout.edit({"spec": {"server": SCALED}})
    until("it is scaled", lambda: api.find(SCALER, namespace, "forge-v1"))
    assert replicas(api, namespace) == 3
    rollout.edit({"spec": {"server": {"autoscaling": None, "replicas": 1}}})
    api.gone(SCALER, namespace, "forge-v1")
    api.gone(BUDGET, namespace, "forge-v1")
    until("one is left", lambda: replicas(api, namespace) == 1)


def test_what_the_api_server_says_of_an_autoscaler_is_told(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.register(1)
    wrong = {"maxReplicas": 2, "metrics": [{"type": "Moods", "moods": {}}]}
    rollout.create(server={"autoscaling": wrong})
    status = rollout.wait("ApplyFailed")
    said = condition({"status": status}, "Progressing")["message"]
    assert "the API server refuses" in said
    assert "moods" in said
    rollout.edit({"spec": {"server": {"autoscaling": None}}})
    rollout.wait("Promoted", stable=1)
