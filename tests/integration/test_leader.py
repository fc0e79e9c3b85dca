"""Two replicas, one leader: the other one takes over when it goes, in order or not."""

import time
from collections.abc import Callable

import pytest
from integration.client import Api, new_namespace, until
from integration.objects import training
from integration.operator_process import OperatorProcess
from integration.rollout import Alertmanager

LEASE_SECONDS = 15


def leads(operator: OperatorProcess) -> bool:
    """Whether the process says that it leads."""
    return operator.metrics()["policyops_leader"] == 1


@pytest.fixture
def replicas(
    api: Api, start_operator: Callable[..., OperatorProcess]
) -> tuple[OperatorProcess, OperatorProcess]:
    """The leader and the standby, both ready."""
    home = new_namespace(api, "operator")
    for name in ("operator-a", "operator-b"):
        pod = {"containers": [{"name": "operator", "image": "operator:1"}]}
        labels = {"app.kubernetes.io/name": "policy-operator"}
        metadata = {"name": name, "namespace": home, "labels": labels}
        api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    env = {"POLICYOPS_LEADER_ELECT": "true", "POLICYOPS_LABEL_POD": "true"}
    first = start_operator(home, POD_NAME="operator-a", **env)
    first.wait_ready()
    until("the first leads", lambda: leads(first))
    # By another name: the certificate, which both share, is renewed for it as well.
    env["POLICYOPS_SERVICE_HOST"] = "operator.example"
    second = start_operator(home, POD_NAME="operator-b", **env)
    second.wait_ready()
    return first, second


def labelled(api: Api, operator: OperatorProcess) -> list[str]:
    """Return the pods that the Service sends reports and alerts to."""
    pods = api.list("Pod", operator.namespace, "policyops.dev/leader=true")
    return [pod["metadata"]["name"] for pod in pods]


def job_of(api: Api, namespace: str, name: str, seconds: float = 30) -> float:
    """Create a training, wait for its Job; return how long that took."""
    began = time.monotonic()
    api.create(training(namespace, name))
    until(f"Job {name}-0", lambda: api.find("Job", namespace, f"{name}-0"), seconds=seconds)
    return time.monotonic() - began


def holder(api: Api, operator: OperatorProcess) -> str:
    """Return who holds the Lease."""
    lease = api.get("Lease", operator.namespace, "policy-operator")
    found: str = lease["spec"]["holderIdentity"]
    return found


def test_a_leader_that_is_stopped_hands_over_at_once(
    api: Api, namespace: str, replicas: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = replicas
    job_of(api, namespace, "one")
    assert not leads(second)
    assert holder(api, first) == "operator-a"
    until("the leader's pod is labelled", lambda: labelled(api, first) == ["operator-a"])
    standby = Alertmanager(api, second)
    assert standby.post({"version": "4", "alerts": []}).status_code == 503
    first.stop()
    began = time.monotonic()
    until("the second leads", lambda: leads(second))
    assert time.monotonic() - began < LEASE_SECONDS / 2
    assert holder(api, second) == "operator-b"
    until("the new one's pod alone is", lambda: labelled(api, first) == ["operator-b"])
    assert standby.post({"version": "4", "alerts": []}).status_code == 200
    standby.close()
    job_of(api, namespace, "two")
    second.stop()


def test_a_leader_that_is_killed_is_followed_when_its_lease_is_over(
    api: Api, namespace: str, replicas: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = replicas
    job_of(api, namespace, "one")
    first.kill()
    seconds = job_of(api, namespace, "two", seconds=LEASE_SECONDS + 15)
    assert seconds > 2  # not before the Lease could be known to be dead
    assert leads(second)
    assert [j["metadata"]["name"] for j in api.list("Job", namespace)] == ["one-0", "two-0"]
    # The killed one comes back under its old name and stands by.
    first.start()
    first.wait_ready()
    assert not leads(first)
    first.stop()
    second.stop()
