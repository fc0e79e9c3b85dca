"""Trainings that stop and go on: suspended, over their deadline, deleted, made again."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from integration.client import Api, condition, jobs, run_config, until
from integration.kubelet import Kubelet, PlayedNode
from integration.objects import completed, failed, training
from policy_api.contract.report import Outcome

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node")


def test_suspend_stops_after_a_checkpoint_and_resume_goes_on(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    api.patch("PolicyTraining", namespace, "forge", {"spec": {"suspend": True}})
    paused = status("Suspended")
    assert condition({"status": paused}, "Suspended")["status"] == "True"
    assert condition({"status": paused}, "Succeeded")["status"] == "Unknown"
    assert paused["attempts"][0]["reason"] == "Suspended"
    assert api.list("Pod", namespace) == []
    api.patch("PolicyTraining", namespace, "forge", {"spec": {"suspend": False}})
    kubelet.run("forge-1")
    resumed = status("Training")
    assert condition({"status": resumed}, "Suspended")["status"] == "False"
    kubelet.end("forge-1", 0, completed(1))
    status("Succeeded")


def test_a_job_that_somebody_else_suspends_is_waited_for_and_goes_on(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    uid = api.get("Job", namespace, "forge-0")["metadata"]["uid"]
    api.create(workload(namespace, uid, "insufficient quota for cpu in flavor default"))
    api.patch("Job", namespace, "forge-0", {"spec": {"suspend": True}})
    waiting = status("JobSuspended")
    until("its pods are gone", lambda: api.list("Pod", namespace) == [])
    running = until("it waits", lambda: not_running(api.get("PolicyTraining", namespace, "forge")))
    assert running["reason"] == "JobSuspended"
    assert running["message"] == (
        "Job forge-0 is suspended, not by this operator (Kueue: insufficient quota for cpu in "
        "flavor default); the training goes on when the Job is resumed"
    )
    assert [a.get("endedAt") for a in waiting["attempts"]] == [None]
    api.patch("Job", namespace, "forge-0", {"spec": {"suspend": False}})
    kubelet.end("forge-0", 0, completed(1))
    (attempt,) = status("Succeeded")["attempts"]
    assert (attempt["job"], attempt["reason"]) == ("forge-0", "Completed")


def workload(namespace: str, job_uid: str, message: str) -> Obj:
    """Return what Kueue would write of a Job that it holds."""
    reserved = {"type": "QuotaReserved", "status": "False", "reason": "Pending"}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": {
            "name": "job-forge-0",
            "namespace": namespace,
            "labels": {"kueue.x-k8s.io/job-uid": job_uid},
        },
        "status": {"conditions": [{**reserved, "message": message}]},
    }


def not_running(made: Obj) -> Obj:
    """Return the condition Running once it is False."""
    found = condition(made, "Running")
    assert found["status"] == "False", found
    return found


def test_a_training_that_is_born_suspended_makes_no_job(
    api: Api, namespace: str, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, suspend=True))
    status("Suspended")
    assert jobs(api, namespace) == []


def test_the_deadline_ends_it_and_it_goes_on_when_it_is_raised(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, activeDeadlineSeconds=2))
    kubelet.run("forge-0")
    ended = status("DeadlineExceeded")
    message = condition({"status": ended}, "Succeeded")["message"]
    assert message.startswith("not finished 2 s after its first start, suspensions not counted")
    until("its pods are stopped", lambda: api.list("Pod", namespace) == [])

    longer = {"spec": {"activeDeadlineSeconds": 1000}}
    api.patch("PolicyTraining", namespace, "forge", longer)
    kubelet.run("forge-1")
    status("Training")
    left = api.get("Job", namespace, "forge-1")["spec"]["activeDeadlineSeconds"]
    assert 900 < left <= 998
    longer["spec"]["activeDeadlineSeconds"] = 2000
    api.patch("PolicyTraining", namespace, "forge", longer)
    until(
        "the Job has the new deadline",
        lambda: (
            api.get("Job", namespace, "forge-1")["spec"]["activeDeadlineSeconds"]
            == pytest.approx(left + 1000, abs=2)
        ),
    )
    kubelet.end("forge-1", 0, completed(1))
    status("Succeeded")


def test_time_to_live_deletes_the_training_and_keeps_the_version(
    api: Api, namespace: str, kubelet: Kubelet
) -> None:
    api.create(training(namespace, ttlSecondsAfterFinished=1))
    kubelet.end("forge-0", 0, completed(1))
    api.gone("PolicyTraining", namespace, "forge")
    until("its children are gone", lambda: jobs(api, namespace) == [])
    assert api.get("PolicyVersion", namespace, "forge-v1")["spec"]["version"] == 1


def test_a_job_removes_the_checkpoints_of_a_training_that_failed(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    made = api.create(training(namespace, maxRetries=0, checkpointRetentionSeconds=1))
    kubelet.run("forge-0")
    rules = json.loads(api.get("ConfigMap", namespace, "forge-0")["data"]["checkpoints.json"])
    uid = made["metadata"]["uid"]
    cluster = api.get("Namespace", None, "kube-system")["metadata"]["uid"]
    assert (rules["cluster"], rules["trainings"]) == (cluster, [uid])
    assert rules["retentionSeconds"] == 1
    kubelet.end("forge-0", 70, failed(Outcome.TRAINER_FAILED, "loss is nan"))
    status("TrainerFailed")
    (pod,) = until(
        "its pod",
        lambda: api.list("Pod", namespace, "batch.kubernetes.io/job-name=forge-sweep"),
    )
    (container,) = pod["spec"]["containers"]
    store = "/var/lib/policyops/pvc/models"
    assert container["command"][2:] == ["policy_trainer.retention", store, "forge", uid]
    kubelet.bind(pod)
    kubelet.terminate(pod, 0)
    api.gone("Job", namespace, "forge-sweep")
    ended = api.get("PolicyTraining", namespace, "forge")["status"]
    assert ended["finishedAt"] < ended["checkpointsRemovedAt"]
    assert ended["state"] == "TrainerFailed"


def test_deletion_removes_everything_but_the_version(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace))
    kubelet.end("forge-0", 0, completed(1))
    status("Succeeded")
    api.delete("PolicyTraining", namespace, "forge")
    api.gone("PolicyTraining", namespace, "forge")
    for kind in ("Job", "Service", "Pod"):
        until(f"no {kind} left", lambda kind=kind: api.list(kind, namespace) == [])
    api.gone("ConfigMap", namespace, "forge-0")
    assert api.find("PolicyVersion", namespace, "forge-v1") is not None


def test_a_training_that_is_made_again_waits_for_the_old_pods(
    api: Api, namespace: str, kubelet: Kubelet, node: PlayedNode, status: Callable[..., Obj]
) -> None:
    old = api.create(training(namespace, compute={"nodes": 2}))
    pods = kubelet.run("forge-0", 2)
    status("Training")
    node.hold(namespace, "trainers")  # they take their time to save
    api.delete("PolicyTraining", namespace, "forge")
    api.gone("PolicyTraining", namespace, "forge")
    new = api.create(training(namespace, compute={"nodes": 2}))
    waiting = status("WaitingForDeletion")
    assert waiting.get("attempts", []) == []
    until("the garbage collector has run", lambda: api.find("Job", namespace, "forge-0") is None)
    message = condition({"status": status("WaitingForDeletion")}, "Running")["message"]
    names = " ".join(pod["metadata"]["name"] for pod in pods)
    assert message.split("pod ")[1].split(" on node played, of a deleted training")[0] in names
    assert jobs(api, namespace) == []
    node.release(namespace, "trainers")
    kubelet.run("forge-0", 2)
    status("Training")
    for kind in ("Job", "ConfigMap", "Service"):
        (owner,) = api.get(kind, namespace, "forge-0")["metadata"]["ownerReferences"]
        assert owner["uid"] == new["metadata"]["uid"] != old["metadata"]["uid"]
    assert run_config(api, namespace, "forge-0").training.uid == new["metadata"]["uid"]


def test_deletion_while_it_runs_leaves_nothing(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj], node: PlayedNode
) -> None:
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    api.delete("PolicyTraining", namespace, "forge")
    for kind in ("PolicyTraining", "Job", "Service", "Pod"):
        until(f"no {kind} left", lambda kind=kind: api.list(kind, namespace) == [])


def test_a_namespace_that_is_deleted_is_left_alone(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj], node: PlayedNode
) -> None:
    """Its Jobs vanish one by one; none of them may be made again, nor be complained about."""
    api.create(training(namespace))
    kubelet.run("forge-0")
    status("Training")
    api.delete("Namespace", None, namespace)
    api.gone("Namespace", None, namespace)
