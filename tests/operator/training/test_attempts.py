"""Many attempts: what is counted, what is listed, what is left of them."""

import pytest
from policy_operator.machinery.progress import ReportedProgress
from policy_operator.training.attempts import KEPT_ATTEMPTS, KEPT_JOBS
from policy_operator.training.types import DeleteChild
from training_world import Cluster, ended, hold, report, started, status_of, suspend


def crash(cluster: Cluster, index: int) -> None:
    """Let an attempt run and crash, and the next one start."""
    cluster.run(index)
    cluster.later(100).settle()
    message = report("TrainerFailed", message="loss is nan", step=index + 1, maxSteps=1000)
    cluster.end(index, ended(code=70, message=message, at=cluster.now), failed=True)
    cluster.settle()
    cluster.later(300).settle()


@pytest.mark.parametrize("retries", [19, 20, 25])
def test_crashes_are_counted_also_when_their_jobs_are_gone(retries):
    cluster = started(maxRetries=retries)
    for index in range(retries + 1):
        assert cluster.jobs_made[-1] == index
        crash(cluster, index)
    assert status_of(cluster) == (
        "False",
        "TrainerFailed",
        f"loss is nan (attempt {retries}; maxRetries {retries} are used up)",
    )
    assert cluster.training.status.failed_attempts == retries + 1
    assert len(cluster.training.status.attempts) == KEPT_ATTEMPTS


def test_an_old_job_does_not_overwrite_what_the_running_attempt_tells():
    cluster = started(maxRetries=50)
    kept = dict(cluster.jobs)
    for index in range(KEPT_ATTEMPTS + 3):
        crash(cluster, index)
        kept |= cluster.jobs
    newest = KEPT_ATTEMPTS + 3
    cluster.jobs = kept  # e.g. restored from a backup
    cluster.run(newest)
    cluster.progress = ReportedProgress(at=cluster.now, percent=90, step=900, max_steps=1000)
    decision = cluster.decide()
    assert decision.status.progress.step == 900
    cluster.settle()
    assert [a.index for a in cluster.training.status.attempts] == list(range(4, newest + 1))


def test_only_the_newest_jobs_stay():
    cluster = started(maxRetries=50)
    for index in range(6):
        crash(cluster, index)
        assert sorted(cluster.jobs) == list(range(max(0, index + 2 - KEPT_JOBS), index + 2))


def test_what_only_a_job_knows_is_written_before_it_is_deleted():
    cluster = started(maxRetries=50)
    for index in range(KEPT_JOBS):
        crash(cluster, index)
    assert cluster.training.status.reserved_version == 7
    cluster.jobs.clear()
    assert cluster.settle().status.reserved_version == 7


def test_nothing_is_deleted_before_the_status_has_the_counters():
    cluster = started(maxRetries=50)
    for index in range(KEPT_JOBS):
        crash(cluster, index)
    old = cluster.training.status.model_copy(update={"failed_attempts": None})
    cluster.training = type(cluster.training)(cluster.training.meta, cluster.training.spec, old)
    cluster.jobs[0] = cluster.jobs[1]  # of an operator that kept them
    first = cluster.step()
    assert (first.actions, first.next_check_at) == ((), cluster.now)
    assert cluster.step().actions == (DeleteChild("Job", "sft-0", "job-0"),)
    assert cluster.training.status.failed_attempts == KEPT_JOBS


def test_a_job_that_is_resumed_after_its_attempts_end_is_deleted():
    cluster = started()
    suspend(cluster, True)
    cluster.step()
    hold(cluster)
    cluster.settle()
    assert cluster.training.status.attempts[0].reason == "Suspended"
    cluster.jobs[0]["spec"]["suspend"] = False
    cluster.jobs[0]["status"]["conditions"] = []
    assert cluster.decide().actions == (DeleteChild("Job", "sft-0", "job-0"),)
