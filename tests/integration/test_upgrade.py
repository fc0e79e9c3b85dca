"""Another version of the operator takes over on a real API server: what runs is not restarted."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.client import Api, new_namespace, until
from integration.operator_process import OperatorProcess
from integration.rollout import Rollout

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("node", "gateway")


def image(api: Api, namespace: str, version: int) -> str:
    """Return the image of a version's server."""
    pod = api.get("Deployment", namespace, f"forge-v{version}")["spec"]["template"]["spec"]
    found: str = pod["containers"][0]["image"]
    return found


def test_an_operator_with_another_server_image_restarts_no_pod(
    api: Api, namespace: str, start_operator: Callable[..., OperatorProcess]
) -> None:
    home = new_namespace(api, "operator")
    older = start_operator(home, POLICYOPS_SERVER_IMAGE="servers:1")
    older.wait_ready()
    rollout = Rollout(api, namespace)
    rollout.serve(1, server={"replicas": 2})
    older.stop()
    before = api.get("Deployment", namespace, "forge-v1")
    pods = {p["metadata"]["uid"] for p in api.list("Pod", namespace)}
    newer = start_operator(home, POLICYOPS_SERVER_IMAGE="servers:2")
    newer.wait_ready()
    # The next version is made by the newer one, and brings a decision about the first with it.
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Promoted", stable=2)
    assert (image(api, namespace, 1), image(api, namespace, 2)) == ("servers:1", "servers:2")
    after = api.get("Deployment", namespace, "forge-v1")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert pods <= {p["metadata"]["uid"] for p in api.list("Pod", namespace)}
    rollout.edit({"spec": {"server": {"resources": {"requests": {"cpu": "10m"}}}}})
    until("its pods are made anew", lambda: image(api, namespace, 1) == "servers:2")
    newer.stop()
    assert not newer.tracebacks()
