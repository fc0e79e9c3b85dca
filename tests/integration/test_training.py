"""Trainings from their creation to their end, with pods that the test plays."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from integration.client import Api, condition, jobs, run_config, until
from integration.kubelet import Kubelet
from integration.objects import DIGEST, completed, failed, training
from integration.operator_process import OperatorProcess
from policy_api.contract.report import Outcome

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node")


def test_success_makes_an_accepted_version(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    made = api.create(training(namespace, tag="exp_001"))
    kubelet.run("forge-0")
    running = status("Training")
    assert condition({"status": running}, "Running")["status"] == "True"
    assert condition({"status": running}, "Succeeded")["status"] == "Unknown"
    assert running["observedGeneration"] == 1

    kubelet.end("forge-0", 0, completed(1, eval_loss=1.5, reward=0.4))
    ended = status("Succeeded")
    assert ended["version"] == 1
    assert ended["artifact"] == {
        "uri": "pvc://models/forge/1",
        "sha256": DIGEST,
        "manifest": "policy.json",
    }
    assert ended["exitCriteria"] == [
        {"metric": "eval_loss", "met": True, "observed": 1.5, "wanted": "<= 2.5", "message": ""}
    ]
    assert {m["name"]: m["value"] for m in ended["metrics"]} == {"eval_loss": 1.5, "reward": 0.4}
    assert ended["progress"]["percent"] == 100
    verdict = condition({"status": ended}, "Succeeded")
    assert (verdict["status"], verdict["reason"]) == ("True", "Succeeded")
    assert verdict["message"] == "version 1: all 1 exit criteria met"
    assert condition({"status": ended}, "Running")["status"] == "False"
    (attempt,) = ended["attempts"]
    assert (attempt["index"], attempt["job"], attempt["reason"]) == (0, "forge-0", "Completed")
    assert attempt["startedAt"] <= attempt["endedAt"]
    assert ended["startedAt"] <= ended["finishedAt"]

    version = api.get("PolicyVersion", namespace, "forge-v1")
    assert version["spec"]["training"] == {"name": "forge", "uid": made["metadata"]["uid"]}
    assert version["spec"]["tag"] == "exp_001"
    assert version["spec"]["artifact"]["sha256"] == DIGEST
    assert "ownerReferences" not in version["metadata"]
    accepted = condition(version, "Accepted")
    assert (accepted["status"], accepted["message"]) == ("True", "all 1 exit criteria met")


def test_the_children_carry_the_whole_contract(
    api: Api, namespace: str, kubelet: Kubelet, operator: OperatorProcess
) -> None:
    spec = {
        "compute": {"nodes": 2, "processesPerNode": 2, "deepspeed": {"stage": 2}},
        "artifact": {"uri": "pvc://models/team"},
        "seed": 7,
    }
    made = api.create(training(namespace, **spec))
    pods = kubelet.pods("forge-0", 2)
    job = api.get("Job", namespace, "forge-0")
    owner = job["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("PolicyTraining", made["metadata"]["uid"])
    assert job["spec"]["completionMode"] == "Indexed"
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)

    container = pods[1]["spec"]["containers"][0]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env["PET_NNODES"] == "2"
    assert env["PET_NPROC_PER_NODE"] == "2"
    assert env["PET_MASTER_ADDR"] == "forge-0-0.forge-0"
    assert env["KUBEFLOW_TRAINER_SERVER_URL"] == (
        f"{operator.url}/v1/namespaces/{namespace}/policytrainings/forge/status"
    )
    assert pods[1]["spec"]["subdomain"] == "forge-0"
    assert pods[0]["spec"]["hostname"] == "forge-0-0"
    assert pods[1]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["imagePullPolicy"] == "IfNotPresent"

    service = until("Service forge-0", lambda: api.find("Service", namespace, "forge-0"))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True

    config = run_config(api, namespace, "forge-0")
    assert config.training.uid == made["metadata"]["uid"]
    assert (config.attempt, config.min_version, config.seed) == (0, 1, 7)
    assert config.store.path == "/var/lib/policyops/pvc/models/team"
    assert config.data[0].path == "/var/lib/policyops/pvc/data/train.jsonl"
    assert "BEGIN CERTIFICATE" in api.get("ConfigMap", namespace, "forge-0")["data"]["ca.crt"]

    kubelet.run("forge-0", 2)
    kubelet.end("forge-0", 0, completed(1), count=2)
    until(
        "it succeeded",
        lambda: api.get("PolicyTraining", namespace, "forge")["status"]["state"] == "Succeeded",
    )


def test_unmet_exit_criteria_tell_each_number(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    criteria = [{"metric": "eval_loss", "max": 2.5}, {"metric": "reward", "min": 0.3}]
    api.create(training(namespace, exitCriteria=criteria))
    kubelet.end("forge-0", 0, completed(1, eval_loss=3.25, reward=0.1))
    ended = status("ExitCriteriaUnmet")
    sentence = "eval_loss is 3.25, wanted <= 2.5; reward is 0.1, wanted >= 0.3"
    verdict = condition({"status": ended}, "Succeeded")
    assert (verdict["status"], verdict["message"]) == ("False", f"version 1: {sentence}")
    assert [v["met"] for v in ended["exitCriteria"]] == [False, False]
    accepted = condition(api.get("PolicyVersion", namespace, "forge-v1"), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ExitCriteriaUnmet")
    assert accepted["message"] == sentence


def test_a_metric_that_diverged_ends_the_training_with_a_sentence(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.end("forge-0", 0, completed(1, eval_loss=float("nan"), reward=0.5))
    ended = status("ExitCriteriaUnmet")
    message = condition({"status": ended}, "Succeeded")["message"]
    assert message == "version 1: eval_loss: the trainer reported nan, wanted <= 2.5"
    assert [m["name"] for m in ended["metrics"]] == ["reward"]
    version = api.get("PolicyVersion", namespace, "forge-v1")
    assert [m["name"] for m in version["spec"]["metrics"]] == ["reward"]


@pytest.mark.parametrize(
    ("code", "outcome", "field", "sentence"),
    [
        (65, Outcome.DATA_INVALID, "data[train] row 3", "it has no field completion"),
        (78, Outcome.CONFIG_INVALID, "spec.sft.args", "SFTConfig has no field lerning_rate"),
    ],
)
def test_bad_input_fails_at_once_and_says_where(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    status: Callable[..., Obj],
    code: int,
    outcome: Outcome,
    field: str,
    sentence: str,
) -> None:
    api.create(training(namespace))
    kubelet.end("forge-0", code, failed(outcome, sentence, field=field))
    ended = status(str(outcome))
    verdict = condition({"status": ended}, "Succeeded")
    assert (verdict["status"], verdict["reason"]) == ("False", str(outcome))
    assert verdict["message"] == f"{field}: {sentence}"
    assert jobs(api, namespace) == ["forge-0"]
    assert api.list("PolicyVersion", namespace) == []


def test_a_crash_is_tried_again_with_the_same_number(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    kubelet.end("forge-0", 70, failed(Outcome.TRAINER_FAILED, "ValueError: shapes differ"))
    waiting = status("Retrying")
    assert "ValueError: shapes differ" in condition({"status": waiting}, "Succeeded")["message"]
    kubelet.run("forge-1")
    assert run_config(api, namespace, "forge-1").attempt == 1
    assert run_config(api, namespace, "forge-1").min_version == 1
    kubelet.end("forge-1", 0, completed(1))
    ended = status("Succeeded")
    assert [a["reason"] for a in ended["attempts"]] == ["TrainerFailed", "Completed"]
    assert ended["version"] == 1


def test_crashes_are_limited(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, maxRetries=0))
    kubelet.end("forge-0", 70, "Traceback (most recent call last):\nKeyError: 'x'")
    message = condition({"status": status("TrainerFailed")}, "Succeeded")["message"]
    assert "KeyError: 'x'" in message
    assert "with exit code 70" in message
    assert "maxRetries 0 are used up" in message
    assert jobs(api, namespace) == ["forge-0"]


def test_a_preemption_is_no_failure_and_goes_on_from_the_checkpoint(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, maxRetries=0))
    kubelet.run("forge-0")
    kubelet.disrupt("forge-0", 75, failed(Outcome.PREEMPTED, "told to stop", step=40))
    kubelet.run("forge-1")
    report = json.loads(completed(1)) | {"resumedFromStep": 40}
    kubelet.end("forge-1", 0, json.dumps(report))
    ended = status("Succeeded")
    assert [a["reason"] for a in ended["attempts"]] == ["Preempted", "Completed"]
    assert ended["attempts"][1]["resumedFromStep"] == 40


def test_a_deleted_job_is_made_again(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    api.delete("Job", namespace, "forge-0", propagationPolicy="Background")
    kubelet.run("forge-1")
    kubelet.end("forge-1", 0, completed(1))
    ended = status("Succeeded")
    assert ended["attempts"][0]["message"] == "Job forge-0 was deleted"


def test_out_of_memory_names_the_limit(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, compute={"resources": {"limits": {"memory": "512Mi"}}}))
    kubelet.end("forge-0", 137, reason="OOMKilled")
    message = condition({"status": status("OutOfMemory")}, "Succeeded")["message"]
    assert "its limit is 512Mi: raise spec.compute.resources.limits.memory" in message
    assert jobs(api, namespace) == ["forge-0"]


def test_an_image_that_is_not_found_is_told_and_waited_for(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, trainer={"image": "example.com/none:1"}))
    kubelet.wait_in("forge-0", "ImagePullBackOff", 'Back-off pulling image "example.com/none:1"')
    waiting = status("ImageNotFound")
    message = condition({"status": waiting}, "Running")["message"]
    assert "can't get image example.com/none:1 (ImagePullBackOff)" in message
    assert condition({"status": waiting}, "Succeeded")["status"] == "Unknown"
    kubelet.run("forge-0")
    status("Training")


def test_unschedulable_says_why_and_keeps_waiting(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, compute={"gpusPerNode": 1}))
    kubelet.unschedulable("forge-0", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    message = condition({"status": status("Unschedulable")}, "Running")["message"]
    assert "1 Insufficient nvidia.com/gpu" in message
    kubelet.run("forge-0")
    status("Training")


def test_a_template_that_the_api_server_refuses_is_a_bad_config(
    api: Api, namespace: str, status: Callable[..., Obj]
) -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    api.create(training(namespace, compute={"resources": resources}))
    message = condition({"status": status("ConfigInvalid")}, "Succeeded")["message"]
    assert "the API server refuses Job" in message
    assert "must be less than or equal to cpu limit" in message


def test_a_job_of_somebody_else_is_left_alone(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    other = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "forge-0", "namespace": namespace},
        "spec": {"template": {"spec": pod}},
    }
    uid = api.create(other)["metadata"]["uid"]
    api.create(training(namespace))
    message = condition({"status": status("Refused")}, "Running")["message"]
    assert message.startswith(
        "Job forge-0 exists and was written by python-httpx: delete or rename"
    )
    assert api.get("Job", namespace, "forge-0")["metadata"]["uid"] == uid


def test_events_tell_the_story(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    kubelet.end("forge-0", 0, completed(1, eval_loss=9))
    status("ExitCriteriaUnmet")

    def told() -> list[tuple[str, str]]:
        events = api.list("Event", namespace)
        ours = [e for e in events if e.get("regarding", {}).get("kind") == "PolicyTraining"]
        ours.sort(key=lambda e: e["eventTime"])
        return [(e["type"], e["reason"]) for e in ours]

    wanted = [
        ("Normal", "AttemptStarted"),
        ("Normal", "Training"),
        ("Warning", "ExitCriteriaUnmet"),
    ]
    until("three events", lambda: told() == wanted, show=told)
