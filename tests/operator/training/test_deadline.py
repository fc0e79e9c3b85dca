"""`activeDeadlineSeconds`: what it counts, and what happens when it is changed."""

from datetime import timedelta

import pytest
from policy_api.base import rfc3339
from policy_operator.training.types import SetDeadline, StopJob
from training_world import (
    T0,
    Cluster,
    change,
    condition,
    done,
    ended,
    hold,
    release,
    report,
    started,
    status_of,
    suspend,
    training,
)


def stopped(cluster: Cluster, index: int) -> None:
    """Let the pods of a Job that we stopped save and end."""
    cluster.pods[index] = []
    cluster.jobs[index]["status"]["conditions"] = [
        condition("Suspended", "JobSuspended", cluster.now)
    ]


def over(**spec) -> Cluster:
    """Return a training whose time is over after 300 s."""
    cluster = started(activeDeadlineSeconds=300, **spec)
    cluster.later(300).settle()
    stopped(cluster, 0)
    cluster.settle()
    assert status_of(cluster)[1] == "DeadlineExceeded"
    return cluster


def test_a_training_that_a_person_suspended_never_dies_of_it():
    cluster = started(activeDeadlineSeconds=300)
    cluster.later(100)
    suspend(cluster, True)
    cluster.settle()
    stopped(cluster.later(20), 0)
    assert cluster.settle().next_check_at is None
    cluster.later(100_000).settle()
    assert cluster.training.status.state == "Suspended"
    suspend(cluster, False)
    cluster.settle()
    cluster.run(1)
    decision = cluster.settle()
    assert decision.next_check_at == cluster.now + timedelta(seconds=200)
    assert cluster.jobs[1]["spec"]["activeDeadlineSeconds"] == 200
    status = cluster.training.status
    assert (status.suspended_since, status.suspended_seconds) == (None, 100_020)
    cluster.run(1)
    cluster.later(199).settle()
    assert cluster.training.status.state == "Training"
    cluster.later(1).settle()
    assert cluster.training.status.state == "DeadlineExceeded"


def test_the_wait_for_a_queue_is_not_counted():
    cluster = Cluster(training(activeDeadlineSeconds=300))
    cluster.settle()
    hold(cluster)
    cluster.settle()
    cluster.later(5000).settle()
    assert cluster.training.status.state == "JobSuspended"
    release(cluster)
    decision = cluster.later(50).settle()
    assert cluster.training.status.suspended_seconds == 5000
    assert decision.next_check_at == cluster.now + timedelta(seconds=250)


def test_suspensions_one_after_another_add_up():
    cluster = started(activeDeadlineSeconds=300)
    hold(cluster.later(10))
    cluster.settle()
    suspend(cluster.later(30), True)
    cluster.settle()
    suspend(cluster.later(40), False)
    cluster.settle()
    hold(cluster.later(5), 1)
    cluster.settle()
    release(cluster.later(60), 1)
    assert cluster.settle().next_check_at == T0 + timedelta(seconds=300 + 70 + 60)


def test_a_training_that_is_suspended_before_it_starts_counts_from_its_start():
    cluster = Cluster(training(activeDeadlineSeconds=300, suspend=True))
    cluster.later(1000).settle()
    suspend(cluster, False)
    cluster.settle()
    cluster.run(0)
    assert cluster.settle().next_check_at == cluster.now + timedelta(seconds=300)


@pytest.mark.parametrize("limit", [400, None])
def test_a_raised_deadline_lets_it_go_on_where_it_was(limit):
    cluster = over(ttlSecondsAfterFinished=60)
    cluster.later(5000).settle()
    assert not cluster.deleted
    change(cluster, active_deadline_seconds=limit)
    cluster.settle()
    assert cluster.jobs_made == [0, 1]
    assert cluster.jobs[1]["spec"]["activeDeadlineSeconds"] == (limit and 100)
    cluster.run(1)
    cluster.settle()
    assert (cluster.training.status.state, cluster.training.status.finished_at) == (
        "Training",
        None,
    )
    cluster.end(1, ended(message=done(), at=cluster.now), failed=False)
    cluster.settle()
    assert status_of(cluster)[1] == "Succeeded"
    cluster.later(60).step()
    assert cluster.deleted


def test_one_that_is_raised_too_little_or_only_suspended_stays_ended():
    cluster = over()
    change(cluster, active_deadline_seconds=299)
    assert cluster.settle().actions == ()
    suspend(cluster, True)
    cluster.later(60).settle()
    suspend(cluster, False)
    cluster.later(60).settle()
    assert status_of(cluster)[1] == "DeadlineExceeded"
    assert cluster.jobs_made == [0]


def test_the_time_between_a_budgets_end_and_its_raise_is_not_counted():
    price = {"usdPerCPUHour": 36}
    cluster = started(activeDeadlineSeconds=1500, budget={**price, "maxUSD": 10})
    cluster.later(950).settle()
    stopped(cluster, 0)
    cluster.settle()
    assert status_of(cluster)[1] == "BudgetExceeded"
    cluster.later(9000).settle()
    raised = training(budget={**price, "maxUSD": 100}).spec.budget
    change(cluster, budget=raised)
    cluster.settle()
    assert cluster.jobs[1]["spec"]["activeDeadlineSeconds"] == 1500 - 950


def test_a_job_that_its_own_deadline_ended_goes_on_if_it_was_raised_meanwhile():
    cluster = started(activeDeadlineSeconds=300)
    cluster.later(300)
    change(cluster, active_deadline_seconds=900)
    cluster.pods[0] = [ended(code=75, message=report("Preempted", step=3), at=cluster.now)]
    cluster.jobs[0]["status"]["conditions"] = [condition("Failed", "DeadlineExceeded", cluster.now)]
    cluster.settle()
    assert cluster.jobs_made == [0, 1]
    assert cluster.training.status.attempts[0].reason == "DeadlineExceeded"
    assert cluster.jobs[1]["spec"]["activeDeadlineSeconds"] == 600


def test_a_job_whose_deadline_comes_a_second_early_is_over():
    cluster = started(activeDeadlineSeconds=300)
    cluster.later(299)
    cluster.jobs[0]["status"]["conditions"] = [condition("Failed", "DeadlineExceeded", cluster.now)]
    cluster.settle()
    assert (cluster.jobs_made, status_of(cluster)[1]) == ([0], "DeadlineExceeded")


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (900, SetDeadline("sft-0", 895)),
        (250, SetDeadline("sft-0", 245)),
        (None, SetDeadline("sft-0", None)),
    ],
)
def test_a_running_job_gets_a_changed_deadline(limit, wanted):
    cluster = started(activeDeadlineSeconds=300)
    cluster.jobs[0]["status"]["startTime"] = rfc3339(T0 + timedelta(seconds=5))
    cluster.later(100)
    assert cluster.settle().actions == ()
    change(cluster, active_deadline_seconds=limit)
    assert cluster.decide().actions == (wanted,)
    cluster.settle()


def test_a_lowered_deadline_ends_it_at_once():
    cluster = started(activeDeadlineSeconds=300)
    change(cluster.later(100), active_deadline_seconds=50)
    assert cluster.step().actions == (StopJob("sft-0", "DeadlineExceeded"),)
