"""What running servers are told, with a real API server: a ConfigMap changes, and no pod does."""

import json

import pytest
from integration.client import Api, Obj, until
from integration.objects import deployment
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


ROUTES: list[Obj] = [
    {
        "path": "/retain",
        "to": "/v1/decisions",
        "request": [
            {"to": "/state", "from": ""},
            {"to": "/topK", "query": "top", "type": "Integer"},
        ],
        "defaults": {"topK": 1, "candidates": ["5 %", None, 3]},
        "response": [{"to": "/offer", "from": "/action"}],
        "then": {
            "deployment": "writer",
            "prompt": "Offer {action}.",
            "timeoutMilliseconds": 5000,
        },
    }
]


def test_paths_of_ones_own_are_published_and_told_with_who_is_asked_next(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1)
    pods = {p["metadata"]["uid"] for p in api.list("Pod", namespace)}

    def paths() -> list[Obj]:
        rules = api.get("HTTPRoute", namespace, "forge")["spec"]["rules"]
        return [match["path"] for rule in rules for match in rule["matches"]]

    own = {"type": "Exact", "value": "/retain"}
    assert own not in paths()
    rollout.edit({"spec": {"server": {"routes": ROUTES}}})
    until("servers are told", lambda: told(api, namespace) == {"routes": ROUTES})
    until("the path is published", lambda: own in paths())

    rollout.register(2)
    api.create(deployment(namespace, "writer"))

    def asks(version: int) -> bool:
        url = f"http://writer-v{version}.{namespace}.svc:80"
        return told(api, namespace).get("peers") == [{"deployment": "writer", "url": url}]

    until("the second one's first version is asked", lambda: asks(1))
    api.patch("PolicyDeployment", namespace, "writer", {"spec": {"target": {"version": 2}}})
    until("its second one is", lambda: asks(2))
    assert {p["metadata"]["uid"] for p in api.list("Pod", namespace)} >= pods

    rollout.edit({"spec": {"traffic": {"path": "/crm"}}})
    until("below the prefix", lambda: {**own, "value": "/crm/retain"} in paths())
    api.delete("PolicyDeployment", namespace, "writer")
    until("nobody is asked", lambda: told(api, namespace) == {"routes": ROUTES})
    rollout.edit({"spec": {"server": {"routes": None}}})
    until("servers forget them", lambda: told(api, namespace) == {})
    until("the path is not published", lambda: len(paths()) == 4)
