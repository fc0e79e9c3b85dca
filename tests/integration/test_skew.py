"""The operator with the CRDs of another version, on an API server, which prunes and defaults."""

import base64
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import landed
import pytest
from integration.client import Api, condition, jobs, new_namespace, until
from integration.kubelet import Kubelet
from integration.objects import completed, failed, training
from integration.operator_process import OperatorProcess
from policy_api.contract.report import Outcome
from policy_operator.access.tls import SECRET

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("node")
NAME = "policytrainings.policyops.dev"
RESYNC = 1  # seconds: everything is looked at again this often
LOOKS = 'policyops_reconcile_seconds_count{kind="PolicyTraining"}'
LISTS = 'policyops_api_calls_total{code="200",kind="PolicyTraining",verb="GET"}'


@contextmanager
def schema(api: Api, change: Callable[[Obj], Obj], probe: Obj, namespace: str) -> Iterator[None]:
    """Serve PolicyTrainings by another schema for a while.

    Args:
        api: The API server.
        change: Makes the other schema of a copy of ours.
        probe: A status that one of both schemas prunes.
        namespace: Where a training is made to see which schema is served.
    """
    ours = api.get("CustomResourceDefinition", None, NAME)["spec"]["versions"][0]
    other = copy.deepcopy(ours)
    other["schema"]["openAPIV3Schema"] = change(other["schema"]["openAPIV3Schema"])
    made = api.create(training(namespace, "probe", suspend=True))["metadata"]["name"]

    def takes() -> bool:
        obj = api.patch_status("PolicyTraining", namespace, made, probe)
        api.patch_status("PolicyTraining", namespace, made, dict.fromkeys(probe))
        return "status" in obj and probe.items() <= obj["status"].items()

    def serve(version: Obj) -> None:
        api.patch("CustomResourceDefinition", None, NAME, {"spec": {"versions": [version]}})

    before = takes()
    serve(other)
    try:
        until("the other schema is served", lambda: takes() is not before)
        yield
    finally:
        serve(ours)
        until("our schema is served again", lambda: takes() is before)
        api.delete("PolicyTraining", namespace, made)


def image_of(api: Api, namespace: str, job: str) -> str:
    found = until(f"Job {job}", lambda: api.find("Job", namespace, job))
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def test_with_the_crd_of_the_last_landed_version_all_goes_on(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    start_operator: Callable[..., OperatorProcess],
) -> None:
    def old(_: Obj) -> Obj:
        return landed.crd("policytrainings")

    probes = new_namespace(api)
    # What others left on this API server has clocks of its own.
    env = {"POLICYOPS_RESYNC_SECONDS": str(RESYNC), "POLICYOPS_NAMESPACES": namespace}
    with schema(api, old, {"trainerImage": "probe"}, probes):
        home = new_namespace(api, "operator")
        first = start_operator(home, POLICYOPS_TRAINER_IMAGE="trainer.example/t:1", **env)
        api.create(training(namespace))
        kubelet.run("forge-0")
        assert "trainerImage" not in status("Training")

        # What is pruned differs from what was decided, at every look: it must wake nobody.
        version = api.get("PolicyTraining", namespace, "forge")["metadata"]["resourceVersion"]
        before = first.metrics()
        until("five resyncs", lambda: first.metrics()[LISTS] >= before[LISTS] + 5)
        after = first.metrics()
        lists = after[LISTS] - before[LISTS] + 1
        assert after[LOOKS] - before[LOOKS] <= lists
        now = api.get("PolicyTraining", namespace, "forge")["metadata"]["resourceVersion"]
        assert now == version

        # An upgrade in the middle of it, with another CA: what runs is told.
        first.stop()
        api.delete("Secret", home, SECRET)
        second = start_operator(home, POLICYOPS_TRAINER_IMAGE="trainer.example/t:2", **env)

        def told() -> bool:
            data = api.get("Secret", home, SECRET)["data"]["ca.crt"]
            has: str = api.get("ConfigMap", namespace, "forge-0")["data"]["ca.crt"]
            return has == base64.b64decode(data).decode()

        until("the attempt has the new CA", lambda: api.find("Secret", home, SECRET) and told())
        kubelet.end("forge-0", 70, failed(Outcome.TRAINER_FAILED, "nan"))
        assert image_of(api, namespace, "forge-1") == "trainer.example/t:1"
        kubelet.run("forge-1")
        kubelet.end("forge-1", 0, completed(1))
        assert status("Succeeded")["version"] == 1
        second.stop()
        for operator in (first, second):
            assert not operator.tracebacks(), operator.tracebacks()


def test_with_the_crd_of_a_newer_version_what_is_unknown_waits_and_survives(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    start_operator: Callable[..., OperatorProcess],
) -> None:
    def newer(root: Obj) -> Obj:
        parts = root["properties"]
        parts["spec"]["properties"]["sft"]["properties"]["neftune"] = {"type": "number"}
        parts["spec"]["properties"]["recipe"]["enum"].append("KTO")
        parts["status"]["properties"]["tokens"] = {"type": "integer"}
        attempt = parts["status"]["properties"]["attempts"]["items"]
        attempt["properties"]["node"] = {"type": "string"}
        return root

    with schema(api, newer, {"tokens": 1}, new_namespace(api)):
        operator = start_operator(new_namespace(api, "operator"))
        api.create(training(namespace, "novel", sft={"epochs": 1, "neftune": 5}))
        api.create(training(namespace, "plain"))
        kubelet.run("plain-0")
        known = status("Training", "plain")["attempts"][0]
        waiting = status("UnknownField", "novel")
        told = condition({"status": waiting}, "Succeeded")["message"]
        assert told.startswith("spec.sft.neftune is unknown to this operator (version ")
        assert jobs(api, namespace) == ["plain-0"]

        marks = {"tokens": 7, "attempts": [{**known, "node": "n1"}]}
        api.patch_status("PolicyTraining", namespace, "plain", marks)
        kubelet.end("plain-0", 0, completed(1))
        ended = status("Succeeded", "plain")
        assert ended["tokens"] == 7
        assert [a["node"] for a in ended["attempts"]] == ["n1"]
        operator.stop()
        assert not operator.tracebacks(), operator.tracebacks()
