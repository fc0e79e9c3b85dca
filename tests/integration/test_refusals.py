"""What admission refuses of a training: it is told in the API server's words, and passes."""

from collections.abc import Callable, Iterator

import pytest
from integration.client import Api, Obj, condition, jobs, until
from integration.kubelet import Kubelet
from integration.objects import completed, training

pytestmark = pytest.mark.usefixtures("operator", "node")

POLICY = "admissionregistration.k8s.io/v1"


def quota(namespace: str, **hard: str) -> Obj:
    """Return a ResourceQuota."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": namespace},
        "spec": {"hard": hard},
    }


def limits(namespace: str, **most: str) -> Obj:
    """Return a LimitRange."""
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small", "namespace": namespace},
        "spec": {"limits": [{"type": "Container", "max": most}]},
    }


@pytest.fixture
def deny(api: Api, namespace: str) -> Iterator[Callable[..., None]]:
    """Refuse to make or change anything of a resource in the test's namespace; wait until so."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")

    def start(group: str, plural: str, probe: Obj) -> None:
        rule = {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [plural],
        }
        here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        specs: tuple[Obj, Obj] = (
            {
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
                "validations": [{"expression": "false", "message": "ask the platform team"}],
            },
            {"policyName": namespace, "validationActions": ["Deny"]},
        )
        for kind, spec in zip(kinds, specs, strict=True):
            metadata = {"name": namespace}
            api.create({"apiVersion": POLICY, "kind": kind, "metadata": metadata, "spec": spec})
        until("the policy counts", lambda: api.refusal(probe))

    yield start
    for kind in reversed(kinds):
        api.delete(kind, None, namespace)


def running(status: Obj) -> str:
    """Return what the training waits for."""
    return str(condition({"status": status}, "Running")["message"])


def test_pods_that_are_refused_by_a_quota_and_by_a_limit_range(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(quota(namespace, pods="0"))
    api.create(limits(namespace, cpu="1"))
    until(
        "the quota counts",
        lambda: api.get("ResourceQuota", namespace, "few")["status"]["hard"] == {"pods": "0"},
    )
    for name, cpu in (("forge", "1"), ("large", "2")):
        compute = {"resources": {"limits": {"cpu": cpu}}}
        api.create(training(namespace, name, compute=compute))
    message = running(status("Refused"))
    assert message.startswith('pods of Job forge-0 are refused: pods "forge-0-0-')
    assert "exceeded quota: few, requested: pods=1, used: pods=0, limited: pods=0" in message
    message = running(status("Refused", "large"))
    assert "maximum cpu usage per Container is 1, but limit is 2" in message
    api.delete("ResourceQuota", namespace, "few")
    api.delete("LimitRange", namespace, "small")
    for name in ("forge", "large"):
        kubelet.run(f"{name}-0")
        assert [a["index"] for a in status("Training", name)["attempts"]] == [0]


def job_probe(namespace: str) -> Obj:
    """Return a Job that is fine but for admission."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"template": {"spec": pod}},
    }


def test_a_policy_that_refuses_jobs_is_waited_out(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    deny: Callable[..., None],
) -> None:
    deny("batch", "jobs", job_probe(namespace))
    api.create(training(namespace))
    message = running(status("Refused"))
    assert message.startswith("the API server refuses Job forge-0: jobs.batch")
    assert message.endswith("denied request: ask the platform team")
    assert jobs(api, namespace) == []
    api.delete("ValidatingAdmissionPolicyBinding", None, namespace)
    kubelet.run("forge-0")
    status("Training")


def test_a_policy_that_lets_nobody_stop_a_job_is_told(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    deny: Callable[..., None],
) -> None:
    """The training runs on and says so; it stops once that is allowed."""
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    deny("batch", "jobs", job_probe(namespace))
    api.patch("PolicyTraining", namespace, "forge", {"spec": {"suspend": True}})
    found = condition({"status": status("Refused")}, "Running")
    assert found["status"] == "True"
    assert found["message"].startswith("the API server refuses to stop Job forge-0: jobs.batch")
    assert found["message"].endswith("denied request: ask the platform team")
    assert "endedAt" not in status()["attempts"][0]
    api.delete("ValidatingAdmissionPolicyBinding", None, namespace)
    until("a Job may be changed", lambda: not api.refusal(job_probe(namespace)))
    # Nobody tells of an admission policy: it is tried again after a while, or by any change.
    api.patch("PolicyTraining", namespace, "forge", {"metadata": {"labels": {"look": "again"}}})
    status("Suspended")


def test_a_policy_that_refuses_what_a_job_needs_keeps_the_job(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    deny: Callable[..., None],
) -> None:
    probe = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "probe", "namespace": namespace},
    }
    deny("", "configmaps", probe)
    api.create(training(namespace))
    message = running(status("Refused"))
    assert "refuses ConfigMap forge-0" in message
    api.delete("ValidatingAdmissionPolicyBinding", None, namespace)
    kubelet.run("forge-0")
    status("Training")
    assert jobs(api, namespace) == ["forge-0"]


def test_a_config_map_that_can_never_be_stops_its_job_at_once(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    """run.json of more than 1 MiB: the API server's own rules refuse it."""
    huge = {"args": {f"a{i}": "x" * 900 for i in range(1200)}}
    api.create(training(namespace, sft=huge))
    message = condition({"status": status("ConfigInvalid")}, "Succeeded")["message"]
    assert message.startswith("the API server refuses ConfigMap forge-0")
    until("its Job is stopped", lambda: api.get("Job", namespace, "forge-0")["spec"]["suspend"])
    until("its pods are gone", lambda: api.list("Pod", namespace) == [])
    (attempt,) = status()["attempts"]
    assert (attempt["reason"], "endedAt" in attempt) == ("ConfigInvalid", True)


@pytest.fixture
def mesh(api: Api, namespace: str) -> Iterator[None]:
    """A service mesh: a policy that puts a second container into every pod of the namespace."""
    proxy = "Object.spec.containers{name: 'proxy', image: 'mesh:1'}"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    expression = f"Object{{spec: Object.spec{{containers: [{proxy}]}}}}"
    kinds = {
        "MutatingAdmissionPolicy": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": expression},
                }
            ],
        },
        "MutatingAdmissionPolicyBinding": {"policyName": namespace},
    }
    for kind, spec in kinds.items():
        metadata = {"name": namespace}
        api.create({"apiVersion": POLICY, "kind": kind, "metadata": metadata, "spec": spec})
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }

    def meshed() -> bool:
        made = api.create(probe, dryRun="All")
        return len(made["spec"]["containers"]) == 2

    until("pods get a proxy", meshed)
    yield
    for kind in reversed(kinds):
        api.delete(kind, None, namespace)


@pytest.mark.usefixtures("mesh")
def test_a_training_ends_with_its_trainer_whatever_runs_beside_it(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, maxRetries=1))
    (pod,) = kubelet.run("forge-0")
    assert [c["name"] for c in pod["spec"]["containers"]] == ["trainer", "proxy"]
    status("Training")
    kubelet.terminate(pod, 70, "KeyError: 'x'", beside={"running": {}})
    kubelet.run("forge-1")
    (pod,) = kubelet.pods("forge-1")
    kubelet.terminate(pod, 0, completed(1), beside={"running": {}})
    ended = status("Succeeded")
    assert [a["reason"] for a in ended["attempts"]] == ["TrainerFailed", "Completed"]
    assert "KeyError: 'x'" in ended["attempts"][0]["message"]
    until("nothing runs any more", lambda: api.list("Pod", namespace) == [])
    for job in jobs(api, namespace):
        assert api.get("Job", namespace, job)["spec"]["suspend"]
