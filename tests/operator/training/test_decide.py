"""The life of a training, played through the pure decision: every end, every pause, every retry."""

from dataclasses import replace
from datetime import timedelta

import pytest
from policy_api.base import Metric
from policy_api.contract.run import BaseArtifact
from policy_operator.machinery.progress import ReportedProgress
from policy_operator.training.types import (
    CompleteAttempt,
    DeleteTraining,
    Failed,
    Ready,
    RecordVersion,
    StartAttempt,
    StopJob,
    Waiting,
)
from training_world import (
    T0,
    Cluster,
    done,
    ended,
    recorded,
    report,
    started,
    status_of,
    suspend,
    training,
)


def test_the_job_comes_first_then_what_it_needs_then_the_status():
    cluster = Cluster(training())
    first = cluster.step()
    assert first.actions == (StartAttempt(0, {}),)
    assert first.next_check_at == T0
    assert [e.reason for e in first.events] == ["AttemptStarted"]
    second = cluster.step()
    assert second.actions == (CompleteAttempt(0, {}),)
    status = cluster.training.status
    assert (status.state, status.started_at, status.observed_generation) == ("Starting", T0, 1)
    assert status_of(cluster) == ("Unknown", "Starting", "0 of 1 pods run")
    assert [(a.index, a.job, a.started_at) for a in status.attempts] == [(0, "sft-0", T0)]


def test_it_trains_once_all_pods_run():
    cluster = started()
    assert cluster.training.status.state == "Training"
    assert status_of(cluster, "Running") == ("True", "Training", "1 of 1 pods run")


def test_success_records_the_version_with_its_verdict():
    cluster = started()
    cluster.later(60).end(0, ended(message=done(3, loss=2.0)), failed=False)
    decision = cluster.settle()
    status = cluster.training.status
    assert decision.actions == ()
    assert cluster.versions_made == [3]
    assert status_of(cluster) == ("True", "Succeeded", "version 3: all 1 exit criteria met")
    assert status_of(cluster, "Running")[0] == "False"
    assert (status.version, status.artifact.uri) == (3, "pvc://artifacts/models/forge/3")
    assert (status.progress.percent, status.progress.step) == (100, 20)
    assert status.finished_at == T0 + timedelta(seconds=60)
    assert [(v.metric, v.met, v.observed) for v in status.exit_criteria] == [
        ("eval_loss", True, 2.0)
    ]
    assert status.attempts[0].reason == "Completed"


def test_unmet_criteria_record_the_version_and_fail_with_each_number():
    cluster = started(
        exitCriteria=[{"metric": "eval_loss", "max": 2.5}, {"metric": "reward", "min": 0.3}]
    )
    cluster.end(0, ended(message=done(1, loss=3.25)), failed=False)
    record = next(a for a in cluster.decide().actions if isinstance(a, RecordVersion))
    assert [v.met for v in record.verdicts] == [False, False]
    cluster.settle()
    assert cluster.versions_made == [1]
    assert status_of(cluster) == (
        "False",
        "ExitCriteriaUnmet",
        (
            "version 1: eval_loss is 3.25, wanted <= 2.5; "
            "reward: the trainer reported no metric 'reward', wanted >= 0.3"
        ),
    )


def test_a_number_that_another_training_has_is_a_conflict():
    cluster = started()
    cluster.version = recorded("another-uid", training="other")
    cluster.end(0, ended(message=done(4)), failed=False)
    cluster.settle()
    status, reason, message = status_of(cluster)
    assert (status, reason) == ("False", "VersionConflict")
    assert "PolicyVersion forge-v4 records training other" in message
    assert cluster.versions_made == []


def test_a_version_without_its_verdict_is_judged_after_a_restart():
    cluster = started()
    cluster.version = recorded(judged=False)
    cluster.end(0, ended(message=done(4)), failed=False)
    assert [type(a) for a in cluster.decide().actions] == [RecordVersion]


@pytest.mark.parametrize(
    ("code", "outcome"), [(78, "ConfigInvalid"), (65, "DataInvalid"), (137, "OutOfMemory")]
)
def test_what_cannot_get_better_fails_at_once(code, outcome):
    cluster = started(maxRetries=3)
    message = report(outcome, field="spec.data[0]", message="it is empty")
    cluster.end(0, ended(code=code, message=message), failed=True)
    cluster.settle()
    status, reason, sentence = status_of(cluster)
    assert (status, reason) == ("False", outcome)
    assert "it is empty" in sentence
    assert cluster.jobs_made == [0]
    assert cluster.events[-1].type == "Warning"


def crash(cluster: Cluster, index: int, *, after: float = 100) -> None:
    cluster.run(index)
    cluster.settle()
    cluster.later(after)
    message = report("TrainerFailed", message="loss is nan", step=5, maxSteps=20)
    cluster.end(index, ended(code=70, message=message, at=cluster.now), failed=True)


def test_a_crash_is_tried_again_after_a_delay_until_retries_are_used_up():
    cluster = started(maxRetries=2)
    for index, delay in ((0, 5), (1, 10)):
        crash(cluster, index)
        waiting = cluster.settle()
        assert cluster.training.status.state == "Retrying"
        assert waiting.next_check_at == cluster.now + timedelta(seconds=delay)
        assert cluster.jobs_made == list(range(index + 1))
        cluster.later(delay)
        cluster.settle()
        assert cluster.jobs_made == list(range(index + 2))
    crash(cluster, 2)
    cluster.settle()
    assert status_of(cluster) == (
        "False",
        "TrainerFailed",
        "loss is nan (attempt 2; maxRetries 2 are used up)",
    )
    assert [a.reason for a in cluster.training.status.attempts] == ["TrainerFailed"] * 3


def test_no_retries_means_the_first_crash_is_the_last():
    cluster = started(maxRetries=0)
    crash(cluster, 0)
    cluster.settle()
    assert status_of(cluster)[1] == "TrainerFailed"


def preempt(cluster: Cluster, index: int, *, after: float = 100) -> None:
    cluster.run(index)
    cluster.settle()
    cluster.later(after)
    message = report("Preempted", step=7, maxSteps=20, resumedFromStep=3)
    cluster.end(index, ended(code=75, message=message, at=cluster.now), failed=True)


def test_a_preemption_goes_on_at_once_and_is_never_counted():
    cluster = started(maxRetries=0)
    for index in range(5):
        preempt(cluster, index)
        cluster.settle()
    assert cluster.jobs_made == [0, 1, 2, 3, 4, 5]
    attempts = cluster.training.status.attempts
    assert [a.reason for a in attempts] == ["Preempted"] * 5 + [None]
    assert attempts[0].resumed_from_step == 3
    assert (cluster.training.status.progress.step, cluster.training.status.progress.percent) == (
        7,
        35,
    )


def test_preemptions_in_quick_succession_slow_down():
    cluster = started()
    gaps = []
    for index in range(4):
        preempt(cluster, index, after=1)
        decision = cluster.settle()
        gap = 0
        if index + 1 not in cluster.jobs_made:
            gap = (decision.next_check_at - cluster.now).total_seconds()
            cluster.later(gap)
            cluster.settle()
        gaps.append(gap)
    assert gaps == [0, 5, 10, 20]


def test_a_job_that_somebody_deleted_is_a_preemption():
    cluster = started()
    del cluster.jobs[0]
    cluster.settle()
    first, second = cluster.training.status.attempts
    assert (first.reason, first.message) == ("Preempted", "Job sft-0 was deleted")
    assert second.job == "sft-1"


def test_the_next_attempt_waits_for_pods_that_still_save():
    cluster = started()
    preempt(cluster, 0)
    observed = replace(cluster.observe(), pods_left=True)
    cluster.observe = lambda: observed
    cluster.settle()
    assert cluster.jobs_made == [0]
    assert cluster.training.status.state == "Retrying"


def test_what_a_deleted_training_of_this_name_left_goes_first():
    cluster = Cluster(training())
    observed = replace(cluster.observe(), leftover="waits for the end of pod sft-0-0-abcde")
    cluster.observe = lambda: observed
    cluster.settle()
    assert cluster.jobs_made == []
    assert status_of(cluster) == (
        "Unknown",
        "WaitingForDeletion",
        "waits for the end of pod sft-0-0-abcde",
    )


def test_only_the_last_twenty_attempts_are_kept_and_counting_goes_on():
    cluster = started()
    for index in range(25):
        preempt(cluster, index)
        cluster.settle()
    attempts = cluster.training.status.attempts
    assert [a.index for a in attempts] == list(range(6, 26))


def test_suspend_stops_the_job_and_resume_makes_the_next_attempt():
    cluster = started()
    suspend(cluster, True)
    assert cluster.step().actions == (StopJob("sft-0", "Suspended"),)
    assert cluster.training.status.state == "Suspending"
    cluster.later(100).end(0, ended(code=75, deleted=True), failed=True)
    cluster.settle()
    assert cluster.training.status.state == "Suspended"
    assert status_of(cluster, "Suspended") == ("True", "Suspended", "suspend is true")
    assert cluster.training.status.attempts[0].reason == "Suspended"
    suspend(cluster, False)
    cluster.settle()
    assert cluster.jobs_made == [0, 1]
    assert status_of(cluster, "Suspended")[:2] == ("False", "Resumed")
    assert cluster.training.status.state == "Starting"


def test_a_training_that_is_born_suspended_makes_no_job():
    cluster = Cluster(training(suspend=True))
    cluster.settle()
    assert cluster.jobs_made == []
    assert cluster.training.status.state == "Suspended"


def test_suspend_taken_back_too_late_goes_on_with_a_new_attempt():
    cluster = started()
    suspend(cluster, True)
    cluster.settle()
    suspend(cluster, False)
    cluster.settle()
    assert cluster.jobs_made == [0]
    assert cluster.training.status.state == "Suspending"
    cluster.end(0, ended(code=75, deleted=True), failed=True)
    cluster.settle()
    assert cluster.jobs_made == [0, 1]


def test_the_deadline_counts_from_the_first_start_over_all_attempts():
    cluster = started(activeDeadlineSeconds=300)
    assert cluster.decide().next_check_at == T0 + timedelta(seconds=300)
    preempt(cluster, 0, after=200)
    assert cluster.decide().actions == (StartAttempt(1, {}, seconds=100),)
    cluster.settle()
    cluster.run(1)
    cluster.settle()
    cluster.later(100)
    decision = cluster.step()
    assert decision.actions == (StopJob("sft-1", "DeadlineExceeded"),)
    assert status_of(cluster)[1] == "DeadlineExceeded"
    assert cluster.training.status.attempts[-1].reason == "DeadlineExceeded"
    assert "300 s" in status_of(cluster)[2]


def test_a_training_that_completed_in_time_is_not_failed_by_a_late_look():
    cluster = started(activeDeadlineSeconds=300)
    cluster.later(200).end(0, ended(message=done()), failed=False)
    cluster.later(1000)
    cluster.settle()
    assert status_of(cluster)[1] == "Succeeded"


def test_one_that_was_resumed_and_completed_before_the_status_knew_is_suspended_no_more():
    cluster = started()
    suspend(cluster, True)
    cluster.step()
    cluster.later(100).end(0, ended(code=75, deleted=True), failed=True)
    cluster.settle()
    told = cluster.training.status
    suspend(cluster, False)
    cluster.settle()
    cluster.training = replace(cluster.training, status=told)  # killed after the Job was made
    cluster.end(1, ended(message=done()), failed=False)
    cluster.settle()
    assert status_of(cluster)[1] == "Succeeded"
    assert status_of(cluster, "Suspended")[:2] == ("False", "Resumed")


def test_it_is_deleted_when_its_time_to_live_is_over():
    cluster = started(ttlSecondsAfterFinished=60)
    cluster.end(0, ended(message=done()), failed=False)
    decision = cluster.settle()
    assert decision.next_check_at == T0 + timedelta(seconds=60)
    cluster.later(60)
    assert cluster.decide().actions == (DeleteTraining(),)


def test_nothing_is_done_about_a_training_that_is_being_deleted():
    dying = training()
    dying = replace(dying, meta=dying.meta.model_copy(update={"deletion_timestamp": T0}))
    assert Cluster(dying).decide().actions == ()


FIRST = Ready(
    BaseArtifact(uri="pvc://a/m/forge/1", path="/x", sha256="0" * 64, policy="forge", version=1),
    "forge-v1",
)
DEPENDENT = {"base": {"training": {"name": "first"}}}


def test_it_waits_for_its_base_and_says_so():
    cluster = Cluster(
        training(**DEPENDENT), dependencies={"base": Waiting("waits for PolicyTraining first")}
    )
    cluster.settle()
    assert cluster.jobs_made == []
    assert status_of(cluster) == ("Unknown", "WaitingForBase", "waits for PolicyTraining first")
    cluster.dependencies = {"base": FIRST}
    assert cluster.decide().actions == (StartAttempt(0, {"base": FIRST}),)
    cluster.settle()
    assert cluster.training.status.state == "Starting"


def test_a_base_that_failed_for_good_fails_it():
    cluster = Cluster(
        training(**DEPENDENT), dependencies={"base": Failed("PolicyTraining first failed")}
    )
    cluster.settle()
    assert status_of(cluster) == ("False", "BaseFailed", "PolicyTraining first failed")
    assert cluster.jobs_made == []


def test_it_waits_for_every_version_that_takes_part():
    waits = {"base": FIRST, "reward": Waiting("waits for PolicyTraining rm")}
    cluster = Cluster(training(**DEPENDENT), dependencies=waits)
    cluster.settle()
    assert cluster.jobs_made == []
    assert status_of(cluster) == ("Unknown", "WaitingForReference", "waits for PolicyTraining rm")
    cluster.dependencies = {"base": FIRST, "reward": FIRST}
    assert cluster.decide().actions == (StartAttempt(0, cluster.dependencies),)


def test_a_reference_that_failed_for_good_fails_it_whatever_else_it_waits_for():
    needed = {"base": Waiting("waits"), "reward": Failed("PolicyTraining rm failed")}
    cluster = Cluster(training(**DEPENDENT), dependencies=needed)
    cluster.settle()
    assert status_of(cluster) == ("False", "ReferenceFailed", "PolicyTraining rm failed")


def test_unmet_criteria_with_keep_end_well_and_the_version_is_not_accepted():
    cluster = started(exitCriteria=[{"metric": "loss", "max": 0.0}], onUnmet="Keep")
    cluster.end(0, ended(message=done()), failed=False)
    decision = cluster.decide()
    (record,) = decision.actions
    assert [v.met for v in record.verdicts] == [False]
    cluster.settle()
    status, reason, message = status_of(cluster)
    assert (status, reason) == ("True", "Kept")
    assert "never deployed (onUnmet: Keep)" in message


def test_the_parent_is_a_version_of_the_same_policy():
    cluster = started()
    cluster.jobs[0]["metadata"]["annotations"] = {"policyops.dev/base-version": "forge-v7"}
    cluster.end(0, ended(message=done(8)), failed=False)
    assert cluster.decide().actions[0].parent_version == 7
    cluster.jobs[0]["metadata"]["annotations"] = {"policyops.dev/base-version": "reward-v7"}
    assert cluster.decide().actions[0].parent_version is None


def progress(at, **fields) -> ReportedProgress:
    return ReportedProgress(at=at, **fields)


def test_progress_is_written_at_most_once_in_five_seconds():
    cluster = started()
    loss = (Metric(name="loss", value=2.5),)
    cluster.progress = progress(cluster.now, percent=10, step=2, max_steps=20, metrics=loss)
    cluster.settle()
    assert cluster.training.status.progress.step == 2
    assert cluster.training.status.metrics == list(loss)
    cluster.later(2)
    cluster.progress = progress(cluster.now, percent=20, step=4)
    decision = cluster.settle()
    assert cluster.training.status.progress.step == 2
    assert decision.next_check_at == T0 + timedelta(seconds=5)
    cluster.later(3)
    cluster.settle()
    kept = cluster.training.status.progress
    assert (kept.step, kept.percent, kept.max_steps) == (4, 20, 20)


def test_news_are_told_once():
    cluster = started()
    told = list(cluster.events)
    for _ in range(5):
        cluster.step()
    assert cluster.events == told
    assert [e.reason for e in told] == ["AttemptStarted", "Training"]
