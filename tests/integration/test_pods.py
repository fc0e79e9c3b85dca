"""The servers' pods with a real API server: a template of the user's, and what is refused of it."""

from typing import Any

import pytest
from integration.client import Api, condition, until
from integration.rollout import Rollout

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node", "gateway")

RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}{part}": value
    for mode in ("enforce", "warn")
    for part, value in (("", "restricted"), ("-version", "latest"))
}
TEMPLATE: Obj = {
    "metadata": {"labels": {"team": "ml"}, "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "imagePullSecrets": [{"name": "registry"}],
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"policyops.dev/deployment": "forge"}},
                "matchLabelKeys": ["policyops.dev/version"],
            }
        ],
        "initContainers": [{"name": "warm", "image": "busybox:1", "restartPolicy": "Always"}],
        "containers": [
            {"name": "logger", "image": "logger:1"},
            {
                "name": "server",
                "env": [{"name": "LOG_LEVEL", "value": "debug"}],
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            },
        ],
        "volumes": [{"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
    },
}


@pytest.fixture
def rollout(api: Api, namespace: str) -> Rollout:
    """The test's PolicyDeployment, not created yet."""
    return Rollout(api, namespace)


def test_a_template_reaches_the_pods_where_only_restricted_ones_are_let_in(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    api.patch("Namespace", None, namespace, {"metadata": {"labels": RESTRICTED}})
    rollout.serve(1, server={"template": TEMPLATE})
    (pod,) = api.list("Pod", namespace)
    assert pod["metadata"]["labels"]["team"] == "ml"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    spec = pod["spec"]
    assert TEMPLATE["spec"]["tolerations"][0] in spec["tolerations"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert [c["name"] for c in spec["initContainers"]] == ["warm"]
    assert [c["name"] for c in spec["containers"]] == ["server", "logger"]
    server = spec["containers"][0]
    assert server["command"] == ["python", "-m", "policy_server"]
    assert {"name": "LOG_LEVEL", "value": "debug"} in server["env"]
    assert "/cache" in [m["mountPath"] for m in server["volumeMounts"]]


def test_a_network_policy_comes_and_goes(api: Api, namespace: str, rollout: Rollout) -> None:
    peer = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    rollout.serve(1, server={"networkPolicy": {"gatewayNamespaces": ["edge"], "peers": [peer]}})
    made = api.get("NetworkPolicy", namespace, "forge")["spec"]
    (rule,) = made["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert peer in rule["from"]
    (pod,) = api.list("Pod", namespace, "policyops.dev/deployment=forge")
    assert made["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    rollout.edit({"spec": {"server": {"networkPolicy": {"peers": [{"ipBlock": {"cidr": "x"}}]}}}})
    said = condition({"status": rollout.wait("ApplyFailed")}, "Progressing")["message"]
    assert "the API server refuses" in said
    assert "cidr" in said
    rollout.edit({"spec": {"server": {"networkPolicy": None}}})
    api.gone("NetworkPolicy", namespace, "forge")


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"tolerence": []}, "field not declared in schema"),
        ({"nodeSelector": [1]}, ".spec.template.spec.nodeSelector: expected map, got"),
        (
            {"tolerations": [{"key": "a", "operator": "Sometimes"}]},
            'tolerations[0].operator: Unsupported value: "Sometimes"',
        ),
        (
            {
                "containers": [
                    {"name": "server", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}
                ]
            },
            'spec.template.spec.containers[0].volumeMounts[3].name: Not found: "x"',
        ),
        (
            {"containers": [{"name": "logger"}]},
            "spec.template.spec.containers[1].image: Required value",
        ),
        (
            {"automountServiceAccountToken": False, "enableServiceLinks": True, "priority": "x"},
            "the API server refuses these pods: ",
        ),
        (
            {"containers": [{"name": "server", "env": [{"name": "PORT", "value": "1"}]}]},
            "containers[server].env[PORT].value can't be set: the operator sets it to 8080",
        ),
    ],
)
def test_a_template_that_can_not_be_is_told_and_nothing_is_made(
    api: Api, namespace: str, rollout: Rollout, pod: Obj, said: str
) -> None:
    rollout.register(1)
    rollout.create(server={"template": {"spec": pod}})
    status = rollout.wait("ServerInvalid")
    assert said in condition({"status": status}, "Progressing")["message"]
    for kind in ("Deployment", "Service", "HTTPRoute"):
        assert api.list(kind, namespace) == []
    rollout.edit({"spec": {"server": {"template": None}}})
    rollout.wait("Promoted", stable=1)
    before = api.get("Deployment", namespace, "forge-v1")["spec"]
    rollout.edit({"spec": {"server": {"template": {"spec": pod}}}})
    rollout.wait("ServerInvalid", stable=1)
    assert api.get("Deployment", namespace, "forge-v1")["spec"] == before
    until("it serves on", lambda: rollout.weights() == {1: 100})
