"""An engine that is not ours, with a real API server: the example with vLLM, as far as pods go."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.client import Api, until
from integration.rollout import Rollout

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node", "gateway")

EXAMPLE = Path(__file__).parents[2] / "examples" / "review-forge" / "vllm" / "deployment.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_example_with_vllm_is_rolled_out_where_only_restricted_pods_are_let_in(
    api: Api, namespace: str
) -> None:
    api.patch("Namespace", None, namespace, {"metadata": {"labels": RESTRICTED}})
    spec = yaml.safe_load(EXAMPLE.read_text())["spec"]
    del spec["policy"], spec["target"], spec["rollout"], spec["traffic"]
    rollout = Rollout(api, namespace)
    rollout.serve(1, **spec)
    (pod,) = api.list("Pod", namespace)
    (before,), (server,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert before["command"] == ["python", "-m", "policy_server.fetch"]
    assert server["image"] == spec["server"]["image"]
    assert server["args"][0] == "$(POLICY_ARTIFACT_PATH)"
    (port,) = api.get("Service", namespace, "forge-v1")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, server["ports"][0]["name"])
    made = api.get("ConfigMap", namespace, "forge-rules")
    assert "http_requests_total" in str(made["data"])
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Promoted", stable=2)

    def engine() -> str:
        found = api.get("Deployment", namespace, "forge-v2")["spec"]["template"]["spec"]
        image: str = found["containers"][0]["image"]
        return image

    rollout.edit({"spec": {"server": {"image": "vllm/vllm-openai:next"}}})
    until("another engine", lambda: engine() == "vllm/vllm-openai:next")
