"""An operator that has rights in one namespace works there, and knows of nothing else."""

from collections.abc import Callable

import pytest
from controlplane import ControlPlane
from integration import rights
from integration.client import Api, new_namespace, until
from integration.objects import accepted, deployment, training, version
from integration.operator_process import OperatorProcess


@pytest.mark.usefixtures("node", "gateway")
def test_it_works_in_its_namespaces_and_leaves_others_alone(
    api: Api,
    control_plane: ControlPlane,
    namespace: str,
    start_operator: Callable[..., OperatorProcess],
) -> None:
    home, other = new_namespace(api, "operator"), new_namespace(api)
    kubeconfig = rights.grant_namespaced(control_plane, home, namespace)
    operator = start_operator(
        home,
        KUBECONFIG=str(kubeconfig),
        POLICYOPS_NAMESPACES=namespace,
        POLICYOPS_LEADER_ELECT="true",
    )
    operator.wait_ready()
    for each in (other, namespace):
        api.create(training(each))
        api.create(version(each, 1))
        api.patch_status("PolicyVersion", each, "forge-v1", accepted())
        api.create(deployment(each, alerts=[]))
    until("the Job is made", lambda: api.find("Job", namespace, "forge-0"))

    def state() -> str:
        found: str = api.get("PolicyDeployment", namespace, "forge")["status"]["state"]
        return found

    until("version 1 serves", lambda: state() == "Promoted", show=operator.tail)
    for kind in ("Job", "HTTPRoute", "Deployment"):
        assert api.list(kind, other) == []
    assert "status" not in api.get("PolicyTraining", other, "forge")
    operator.stop()
    assert "forbidden" not in operator.log.read_text()
    assert not operator.tracebacks(), operator.tracebacks()
    api.delete("Namespace", None, other)
