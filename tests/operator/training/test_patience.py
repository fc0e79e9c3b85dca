"""How long an attempt is waited for: an image, a sidecar, a pod that does not end."""

from dataclasses import replace
from datetime import timedelta

from policy_api.base import rfc3339
from policy_operator.training.patience import told
from policy_operator.training.types import (
    RecordVersion,
    StopJob,
)
from training_world import (
    FAILED,
    T0,
    Cluster,
    condition,
    done,
    ended,
    meshed,
    pod,
    report,
    started,
    status_of,
    training,
)


def pulling(cluster: Cluster, index: int, reason: str = "ImagePullBackOff") -> None:
    state = {"waiting": {"reason": reason, "message": "no such host"}}
    cluster.pods[index] = [pod(of=f"job-{index}", state=state)]


def test_an_image_that_does_not_come_frees_the_nodes_after_ten_minutes():
    cluster = Cluster(training(maxRetries=1))
    cluster.settle()
    cluster.later(30)
    pulling(cluster, 0)
    assert cluster.settle().next_check_at == cluster.now + timedelta(minutes=10)
    assert cluster.training.status.attempts[0].stalled_since == cluster.now
    cluster.later(599)
    assert cluster.settle().actions == ()
    cluster.later(1)
    decision = cluster.step()
    # First the status has the end, then the Job is stopped: what tells of it goes with the pods.
    assert (decision.actions, decision.next_check_at) == ((), cluster.now)
    attempt = cluster.training.status.attempts[0]
    assert (attempt.reason, attempt.ended_at) == ("ImageNotFound", cluster.now)
    assert attempt.message == (
        "pod sft-0-0-abcde can't get image registry.example/trainer:1 (ImagePullBackOff): "
        "no such host; waited 10 minutes for it"
    )
    assert cluster.step().actions == (StopJob("sft-0", "Ending"),)
    cluster.settle()
    assert (cluster.training.status.state, cluster.jobs_made) == ("Retrying", [0])
    cluster.pods[0] = []
    assert cluster.settle().next_check_at == cluster.now + timedelta(minutes=5)
    cluster.later(300)
    cluster.settle()
    assert cluster.jobs_made == [0, 1]
    pulling(cluster, 1)
    cluster.settle()
    cluster.later(600)
    cluster.settle()
    status, reason, message = status_of(cluster)
    assert (status, reason) == ("False", "ImageNotFound")
    assert message.endswith("(attempt 1; maxRetries 1 are used up)")
    assert cluster.jobs[1]["spec"]["suspend"]


def test_what_events_say_of_a_pod_is_a_stall_and_of_a_job_is_none():
    cluster = Cluster(training())
    cluster.settle()
    seen = cluster.observe().attempts[0]
    assert cluster.decide().next_check_at == T0 + timedelta(seconds=5)
    refused = told(seen, "exceeded quota")
    assert (refused.reason, refused.message, refused.stall) == (
        "Refused",
        "pods of Job sft-0 are refused: exceeded quota",
        None,
    )
    placed = condition("PodScheduled")
    cluster.pods[0] = [pod(state={"waiting": {"reason": "ContainerCreating"}}, conditions=[placed])]
    seen = cluster.observe().attempts[0]
    assert cluster.decide().next_check_at == T0 + timedelta(seconds=20)
    mount = told(seen, 'configmap "data" not found')
    assert mount.reason == mount.stall.reason == "ContainerNotStarted"
    assert mount.message == 'pod sft-0-0-abcde does not start: configmap "data" not found'
    # Its own ConfigMap is not there yet: the mount fails by that.
    assert told(replace(seen, complete=False), "no").stall is None


def test_events_are_asked_for_more_and_more_seldom():
    cluster = Cluster(training())
    cluster.settle()
    waits = []
    for _ in range(10):
        again = cluster.decide().next_check_at
        waits.append((again - cluster.now).total_seconds())
        cluster.now = again
    assert waits == [5, 5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_an_image_that_comes_at_last_is_waited_for_anew_the_next_time():
    cluster = Cluster(training())
    cluster.settle()
    pulling(cluster, 0, "CreateContainerConfigError")
    cluster.settle()
    assert cluster.training.status.state == "ContainerNotStarted"
    cluster.later(500)
    cluster.pods[0] = [pod(state={"waiting": {"reason": "ContainerCreating"}})]
    cluster.settle()
    assert cluster.training.status.attempts[0].stalled_since is None
    cluster.later(500)
    pulling(cluster, 0)
    cluster.settle()
    assert cluster.training.status.state == "ImageNotFound"
    assert cluster.training.status.attempts[0].ended_at is None


def test_a_name_that_no_image_can_have_fails_at_once():
    cluster = Cluster(training())
    cluster.settle()
    pulling(cluster, 0, "InvalidImageName")
    cluster.settle()
    status, reason, message = status_of(cluster)
    assert (status, reason) == ("False", "ConfigInvalid")
    assert message.endswith("no image has such a name: use a right spec.trainer.image")
    assert cluster.jobs[0]["spec"]["suspend"]
    assert cluster.jobs_made == [0]


def test_a_sidecar_does_not_keep_a_finished_training_from_its_end():
    cluster = started()
    cluster.pods[0] = [meshed(ended(message=done(3), startTime=rfc3339(T0)))]
    decision = cluster.step()
    assert [type(a) for a in decision.actions] == [RecordVersion]
    assert status_of(cluster)[:2] == ("True", "Succeeded")
    assert decision.next_check_at == cluster.now
    assert cluster.step().actions == (StopJob("sft-0", "Ending"),)


def test_a_crash_beside_a_sidecar_is_tried_again_when_its_pods_are_gone():
    cluster = started(compute={"nodes": 2})
    cluster.later(100)
    crashed = ended(0, 70, report("TrainerFailed", message="nan"), at=cluster.now)
    cluster.pods[0] = [meshed(crashed), meshed(pod(1, "Running"))]
    assert cluster.settle().next_check_at == cluster.now + timedelta(seconds=30)
    assert cluster.training.status.state == "Ending"
    cluster.later(30)
    cluster.settle()
    assert cluster.training.status.attempts[0].reason == "TrainerFailed"
    assert cluster.jobs[0]["spec"]["suspend"]
    assert (cluster.training.status.state, cluster.jobs_made) == ("Retrying", [0])
    cluster.pods[0] = []
    cluster.settle()
    assert cluster.jobs_made == [0, 1]


def test_a_pod_that_does_not_end_is_named_with_what_a_person_can_do():
    cluster = started()
    cluster.later(10)
    lost = pod(0, "Running", deleted=True)
    lost["metadata"]["deletionTimestamp"] = rfc3339(cluster.now)
    lost["spec"]["nodeName"] = "gpu-7"
    cluster.pods[0] = [lost]
    assert cluster.settle().next_check_at == cluster.now + timedelta(seconds=60)
    assert cluster.training.status.state == "Ending"
    cluster.later(60)
    cluster.settle()
    assert status_of(cluster)[:2] == ("Unknown", "PodStuck")
    assert status_of(cluster)[2] == (
        "pod sft-0-0-abcde should have ended at 2026-01-01T00:00:10Z and has not, its node gpu-7 "
        "may be lost; the training goes on when the pod is gone. If the node is gone for good: "
        "kubectl delete pod sft-0-0-abcde --force --grace-period=0"
    )
    assert (cluster.events[-1].type, cluster.events[-1].reason) == ("Warning", "PodStuck")
    # The attempt ends, e.g. its Job was deleted: the pod still keeps the next one from starting.
    cluster.jobs[0]["status"]["conditions"] = [FAILED]
    cluster.settle()
    assert (cluster.training.status.state, cluster.jobs_made) == ("PodStuck", [0])
    cluster.pods[0] = []
    cluster.settle()
    assert cluster.jobs_made == [0, 1]
