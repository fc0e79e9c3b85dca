"""How an attempt ended, and what one that has not ended waits for."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_operator.training.outcome import view
from policy_operator.training.types import Silence
from training_world import COMPLETE, FAILED, T0, condition, done, ended, job, meshed, pod, report

DISRUPTED = condition("DisruptionTarget", "EvictionByEvictionAPI")
PREEMPTED = report("Preempted", step=7)
LATER = T0 + timedelta(seconds=30)
CRASHED = report("TrainerFailed", message="loss is nan at step 12")


def end_of(the_job, *pods):
    return view(the_job, pods, complete=True).end


FAILURES = {
    "bad config names the field": (
        [ended(code=78, message=report("ConfigInvalid", field="spec.sft.args.bf17", message="no"))],
        "ConfigInvalid",
        "spec.sft.args.bf17: no",
    ),
    "bad data names the row": (
        [ended(code=65, message=report("DataInvalid", field="train row 17", message="no prompt"))],
        "DataInvalid",
        "train row 17: no prompt",
    ),
    "bad data of one rank wins over the crash of another": (
        [
            ended(0, 70, CRASHED),
            ended(1, 65, report("DataInvalid", message="no prompt"), deleted=True),
        ],
        "DataInvalid",
        "no prompt",
    ),
    "bad data counts without a report": ([ended(code=65)], "DataInvalid", "exit code 65"),
    "the kernel killed for memory": (
        [ended(code=137, reason="OOMKilled")],
        "OutOfMemory",
        "its limit is 1Gi: raise spec.compute.resources.limits.memory",
    ),
    "the supervisor saw a worker killed for memory": (
        [ended(code=137, message=report("OutOfMemory", message="a worker got SIGKILL"))],
        "OutOfMemory",
        "a worker got SIGKILL; its limit is 1Gi",
    ),
    "memory of one rank wins over the crash that it caused": (
        [ended(0, 70, CRASHED), ended(1, 137, reason="OOMKilled")],
        "OutOfMemory",
        "sft-0-1-abcde",
    ),
    "told to stop and saved": ([ended(code=75, message=PREEMPTED)], "Preempted", "checkpoint"),
    "all ranks stop when one was told to": (
        [ended(0, 75, PREEMPTED), ended(1, 75, PREEMPTED, deleted=True)],
        "Preempted",
        "checkpoint",
    ),
    "evicted, whatever its exit code": (
        [ended(code=137, conditions=[DISRUPTED])],
        "Preempted",
        "evicted, preempted or lost its node",
    ),
    "a crash that follows a peer's eviction is the eviction's": (
        [ended(0, 70, CRASHED), ended(1, 137, conditions=[DISRUPTED])],
        "Preempted",
        "sft-0-1-abcde was evicted",
    ),
    "evicted by the kubelet": (
        [pod(phase="Failed") | {"status": {"phase": "Failed", "reason": "Evicted"}}],
        "Preempted",
        "evicted",
    ),
    "its pod is gone": ([], "Preempted", "a pod of it was deleted"),
    "its pod is being deleted": ([ended(code=70, deleted=True)], "Preempted", "was deleted"),
    "a crash says what the report says": (
        [ended(code=70, message=CRASHED)],
        "TrainerFailed",
        "loss is nan at step 12",
    ),
    "a crash without a report says the end of the log": (
        [ended(code=1, message="…\nRuntimeError: NCCL timeout\n")],
        "TrainerFailed",
        "ended with exit code 1: …",
    ),
    "a crash stays a crash when the others are torn down and save": (
        [ended(0, 70, CRASHED), ended(1, 75, PREEMPTED, deleted=True)],
        "TrainerFailed",
        "loss is nan",
    ),
    "killed without a reason is a crash": ([ended(code=137)], "TrainerFailed", "exit code 137"),
    "the first to fail is the cause": (
        [
            ended(0, 70, report("TrainerFailed", message="peer went away"), at=LATER),
            ended(1, 70, report("TrainerFailed", message="division by zero")),
        ],
        "TrainerFailed",
        "division by zero",
    ),
}


@pytest.mark.parametrize(("pods", "reason", "sentence"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_job(pods, reason, sentence):
    end = end_of(job(nodes=max(1, len(pods)), conditions=[FAILED], limits={"memory": "1Gi"}), *pods)
    assert end.reason == reason
    assert sentence in end.message


def test_memory_without_a_limit_says_that_the_node_ran_out():
    end = end_of(job(conditions=[FAILED]), ended(code=137, reason="OOMKilled"))
    assert "it has no limit of its own" in end.message


def test_the_jobs_own_deadline():
    end = end_of(job(conditions=[condition("Failed", "DeadlineExceeded")]))
    assert end.reason == "DeadlineExceeded"


def test_a_complete_job_carries_rank_0s_report():
    end = end_of(
        job(nodes=2, conditions=[COMPLETE]), ended(1, 0, report("Completed")), ended(0, 0, done(3))
    )
    assert end.reason == "Completed"
    assert end.report.artifact.version == 3


def test_a_complete_job_without_an_artifact_is_a_failure_of_the_trainer():
    end = end_of(job(conditions=[COMPLETE]), ended(message="not a report"))
    assert end.reason == "TrainerFailed"
    assert "no artifact" in end.message


def test_a_complete_job_whose_pods_are_gone_runs_again():
    end = end_of(job(conditions=[COMPLETE]))
    assert end.reason == "Preempted"
    assert "report with it" in end.message


@pytest.mark.parametrize(
    "the_job",
    [
        job(suspend=True, conditions=[FAILED]),
        job(suspend=True, conditions=[condition("Suspended", "JobSuspended")]),
    ],
)
def test_a_suspended_job_has_ended_when_its_pods_are_gone(the_job):
    assert end_of(the_job).reason == "Suspended"
    assert end_of(the_job, ended(code=75, deleted=True)).reason == "Suspended"


def test_a_suspended_job_has_not_ended_while_a_pod_saves():
    the_job = job(suspend=True, conditions=[condition("Suspended", "JobSuspended")])
    assert end_of(the_job, pod(phase="Running", deleted=True)) is None


def test_a_job_that_somebody_else_has_suspended_has_not_ended():
    theirs = job(suspend=True, by=None, conditions=[condition("Suspended", "JobSuspended")])
    seen = view(theirs, [ended(code=75, deleted=True)], complete=True)
    assert (seen.end, seen.reason, seen.stopping) == (None, "JobSuspended", False)


def test_a_job_whose_suspension_the_controller_has_not_seen_has_not_ended():
    assert end_of(job(suspend=True)) is None


def test_a_training_that_completes_while_it_is_told_to_stop_has_completed():
    end = end_of(job(suspend=True, conditions=[COMPLETE]), ended(message=done()))
    assert end.reason == "Completed"


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


STARTS = {
    "no pod yet": ([], False, "Starting", "0 of 2 pods run"),
    "containers are created": (
        [pod(0, state=waiting("ContainerCreating")), pod(1)],
        False,
        "Starting",
        "0 of 2 pods run",
    ),
    "one of two": ([pod(0, "Running"), pod(1)], False, "Starting", "1 of 2 pods run"),
    "both": ([pod(0, "Running"), pod(1, "Running")], True, "Training", "2 of 2 pods run"),
    "one has crashed": (
        [pod(0, "Running"), ended(1, 70)],
        False,
        "Ending",
        "1 of 2 pods run; pod sft-0-1-abcde ended with exit code 70",
    ),
    "one was evicted": (
        [pod(0, "Running"), pod(1, "Failed", reason="Evicted")],
        False,
        "Ending",
        "1 of 2 pods run; pod sft-0-1-abcde ended without an exit code (Evicted)",
    ),
    "one is being deleted": (
        [pod(0, "Running"), pod(1, "Running", deleted=True, conditions=[DISRUPTED])],
        False,
        "Ending",
        "1 of 2 pods run; pod sft-0-1-abcde is being deleted (EvictionByEvictionAPI)",
    ),
    "one has finished": (
        [pod(0, "Running"), ended(1, 0)],
        True,
        "Training",
        "1 of 2 pods run, 1 finished",
    ),
    "one has crashed while another finds no node": (
        [pod(0, conditions=[UNSCHEDULABLE]), ended(1, 70)],
        False,
        "Ending",
        "0 of 2 pods run; pod sft-0-1-abcde ended with exit code 70",
    ),
    "a phase that nobody knows": (
        [pod(0, "Running"), pod(1, "Unknown")],
        False,
        "Starting",
        "1 of 2 pods run",
    ),
    "the image of a container of others": (
        [
            pod(0, "Running"),
            meshed(pod(1, state=waiting("PodInitializing")), **waiting("ErrImagePull", "denied")),
        ],
        False,
        "ImageNotFound",
        "pod sft-0-1-abcde can't get image mesh:1 of container proxy (ErrImagePull): denied",
    ),
    "no node": (
        [pod(0, "Running"), pod(1, conditions=[UNSCHEDULABLE])],
        False,
        "Unschedulable",
        "pod sft-0-1-abcde finds no node: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    ),
    "no image": (
        [pod(0, state=waiting("ImagePullBackOff", "not found")), pod(1)],
        False,
        "ImageNotFound",
        "can't get image registry.example/trainer:1 (ImagePullBackOff): not found",
    ),
    "no secret": (
        [pod(0, state=waiting("CreateContainerConfigError", 'secret "s3" not found')), pod(1)],
        False,
        "ContainerNotStarted",
        'does not start (CreateContainerConfigError): secret "s3" not found',
    ),
    "the gravest is told": (
        [pod(0, state=waiting("ErrImagePull")), pod(1, conditions=[UNSCHEDULABLE])],
        False,
        "Unschedulable",
        "finds no node",
    ),
}


@pytest.mark.parametrize(
    ("pods", "running", "reason", "sentence"), STARTS.values(), ids=STARTS.keys()
)
def test_an_attempt_that_has_not_ended(pods, running, reason, sentence):
    got = view(job(nodes=2), pods, complete=True)
    assert got.end is None
    assert (got.running, got.reason) == (running, reason)
    assert sentence in got.message


PLACED = condition("PodScheduled", at=LATER)


def test_what_holds_a_node_is_a_stall_and_what_finds_none_is_not():
    def stall(**changes):
        return view(job(), [pod(0, **changes)], complete=True).stall

    for reason in ("ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"):
        assert stall(state=waiting(reason)).final is False
    assert stall(state=waiting("InvalidImageName")).final is True
    assert stall(conditions=[UNSCHEDULABLE]) is None
    assert stall(state=waiting("ContainerCreating"), conditions=[PLACED]) is None


def test_who_is_asked_why_an_attempt_does_not_start():
    def silence(the_job, *pods):
        return view(the_job, pods, complete=True).silence

    assert silence(job(nodes=2)) == Silence("Job", "sft-0", "job-0", T0)
    some = silence(job(nodes=2), pod(0, conditions=[PLACED]))
    assert (some.kind, some.heard) == ("Job", T0)
    assert silence(job(), pod(0, conditions=[PLACED])) == Silence(
        "Pod", "sft-0-0-abcde", "pod-job-0-0", LATER
    )
    assert silence(job(), pod(0)) is None  # the scheduler has not said anything yet
    assert silence(job(), pod(0, "Running")) is None
    assert silence(job(suspend=True)) is None


MESHED = {
    "all ranks have finished": (
        [meshed(ended(0, message=done(3))), meshed(ended(1, message=report("Completed")))],
        "Completed",
        None,
    ),
    "one of two has finished": (
        [meshed(ended(0, message=done(3))), meshed(pod(1, "Running"))],
        None,
        None,
    ),
    "one crashed, the other trains on": (
        [meshed(ended(0, 70, CRASHED)), meshed(pod(1, "Running"))],
        None,
        "TrainerFailed",
    ),
    "all have failed": (
        [
            meshed(ended(0, 70, CRASHED, at=LATER)),
            meshed(ended(1, 65, report("DataInvalid", message="no prompt"))),
        ],
        "DataInvalid",
        None,
    ),
    "told to stop": (
        [meshed(ended(0, 75, PREEMPTED)), meshed(ended(1, 75, PREEMPTED))],
        "Preempted",
        None,
    ),
    "the proxy has ended as well": (
        [
            meshed(ended(0, 70, CRASHED), terminated={"exitCode": 0}),
            meshed(pod(1, "Running")),
        ],
        None,
        None,
    ),
    "the pod is deleted and ends by itself": (
        [meshed(ended(0, 75, PREEMPTED, deleted=True)), meshed(pod(1, "Running"))],
        None,
        None,
    ),
}


@pytest.mark.parametrize(("pods", "end", "failing"), MESHED.values(), ids=MESHED.keys())
def test_the_trainers_count_when_other_containers_go_on(pods, end, failing):
    got = view(job(nodes=2), pods, complete=True)
    assert (got.end and got.end.reason) == end
    assert (got.failing and got.failing.reason) == failing
    assert got.job_runs


def test_a_native_sidecar_is_ended_by_the_kubelet():
    made = ended(0, message=done(3))
    made["status"]["phase"] = "Running"
    made["status"]["initContainerStatuses"] = [{"name": "proxy", "state": {"running": {}}}]
    assert end_of(job(), made) is None


def test_an_end_beside_a_sidecar_is_as_old_as_the_trainers():
    pods = [meshed(ended(0, message=done(3), at=LATER)), meshed(ended(1, 0))]
    assert end_of(job(nodes=2), *pods).at == LATER


def test_a_stopped_job_with_a_sidecar_ends_by_its_pods():
    pods = [meshed(ended(0, 75, PREEMPTED))]
    assert end_of(job(suspend=True), *pods) is None


def test_pods_of_another_job_of_that_name_do_not_count():
    """The training was deleted and made again: pods of its former self still end."""
    got = view(job(uid="new"), [pod(0, "Running", of="old")], complete=True)
    assert not got.running


def test_of_two_pods_of_an_index_the_newest_counts():
    old = ended(0, 70)
    new = pod(0, "Running")
    new["metadata"]["creationTimestamp"] = "2026-01-01T00:01:00Z"
    assert view(job(), [new, old], complete=True).running


codes = st.sampled_from([0, 1, 65, 70, 75, 78, 137, 143, None])


@given(st.lists(st.tuples(codes, st.booleans(), st.booleans()), max_size=4), st.booleans())
def test_every_end_has_a_reason_and_a_sentence(pods, stopping):
    made = []
    for index, (code, deleted, disrupted) in enumerate(pods):
        one = ended(index, code or 0, deleted=deleted, conditions=[DISRUPTED] if disrupted else [])
        if code is None:
            one["status"] |= {"phase": "Failed", "containerStatuses": []}
        made.append(one)
    end = end_of(job(nodes=len(pods) or 1, conditions=[FAILED], suspend=stopping), *made)
    assert end.message
    assert end.reason in {
        "ConfigInvalid",
        "DataInvalid",
        "OutOfMemory",
        "Preempted",
        "Suspended",
        "TrainerFailed",
    }
    if any(d for _, _, d in pods) and not any(c in (65, 78) for c, _, _ in pods):
        assert end.reason in ("Preempted", "Suspended")
