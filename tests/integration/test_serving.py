"""What running servers are told, with a real API server: a ConfigMap changes, and no pod does."""

import json

import pytest
from integration.client import Api, Obj, until
from integration.rollout import Rollout

pytestmark = pytest.mark.usefixtures("operator", "node", "gateway")

HYBRID: Obj = {
    "mode": "Hybrid",
    "minConfidence": 0.7,
    "autoApprove": {"minConfidence": 0.9, "actions": ["scale"]},
    "baseline": {"strategy": "Rule", "rule": {"answer": "Ask a person."}},
    "timeoutMilliseconds": 2000,
}


def told(api: Api, namespace: str) -> Obj:
    found = api.find("ConfigMap", namespace, "forge-serving")
    assert found is not None
    read: Obj = json.loads(found["data"]["serving.json"])
    return read


@pytest.fixture
def rollout(api: Api, namespace: str) -> Rollout:
    """The test's PolicyDeployment, not created yet."""
    return Rollout(api, namespace)


def test_a_change_of_the_mode_reaches_the_config_map_and_no_pod(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1)
    assert told(api, namespace) == {}
    before = api.get("Deployment", namespace, "forge-v1")
    pods = {p["metadata"]["uid"] for p in api.list("Pod", namespace)}

    def changed(wanted: Obj) -> bool:
        return told(api, namespace) == wanted

    rollout.edit({"spec": HYBRID})
    until("servers are told", lambda: changed(HYBRID))
    rollout.edit({"spec": {"mode": "Advisor", "autoApprove": None}})
    rest = {key: value for key, value in HYBRID.items() if key != "autoApprove"}
    until("servers are told again", lambda: changed({**rest, "mode": "Advisor"}))
    after = api.get("Deployment", namespace, "forge-v1")
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert {p["metadata"]["uid"] for p in api.list("Pod", namespace)} == pods

    api.delete("ConfigMap", namespace, "forge-serving")
    until("it is there again", lambda: changed({**rest, "mode": "Advisor"}))
    made = api.get("ConfigMap", namespace, "forge-serving")
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "policy-operator"
    api.delete("PolicyDeployment", namespace, "forge")
    api.gone("ConfigMap", namespace, "forge-serving")
