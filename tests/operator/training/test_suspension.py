"""Jobs that somebody else suspends and resumes: Kueue, an administrator."""

from datetime import timedelta

import pytest
from policy_api.base import rfc3339
from policy_operator.training.queueing import workload_says
from policy_operator.training.types import DeleteChild, StopJob
from training_world import (
    T0,
    Cluster,
    done,
    ended,
    hold,
    pod,
    release,
    report,
    started,
    status_of,
    suspend,
    training,
)

PRICE = {"usdPerCPUHour": 36}


def test_a_job_that_somebody_else_holds_is_waited_for():
    cluster = Cluster(training())
    cluster.settle()
    hold(cluster)
    for _ in range(60):
        decision = cluster.later(30).settle()
    assert cluster.jobs_made == [0]
    assert status_of(cluster, "Running") == (
        "False",
        "JobSuspended",
        (
            "Job sft-0 is suspended, not by this operator; "
            "the training goes on when the Job is resumed"
        ),
    )
    assert [a.ended_at for a in cluster.training.status.attempts] == [None]
    assert decision.next_check_at == cluster.now + timedelta(seconds=30)
    release(cluster)
    cluster.settle()
    assert cluster.training.status.state == "Training"


def test_only_time_in_which_pods_run_is_paid_for():
    cluster = started(budget={**PRICE, "maxUSD": 10})
    cluster.later(100).settle()
    hold(cluster)
    cluster.settle()
    assert cluster.training.status.cost.run_seconds == 100
    cluster.later(5000).settle()
    release(cluster)
    decision = cluster.settle()
    assert (decision.next_check_at - cluster.now).total_seconds() == 60
    cluster.later(840).settle()
    assert cluster.training.status.cost.run_seconds == 940
    assert cluster.later(10).step().actions == (StopJob("sft-0", "BudgetExceeded"),)
    pods = ended(code=75, message=report("Preempted", step=9), at=cluster.now)
    cluster.end(0, pods, failed=True)
    cluster.settle()
    (attempt,) = cluster.training.status.attempts
    assert (attempt.run_seconds, attempt.earlier_run_seconds) == (950, 100)
    assert cluster.training.status.cost.usd == 9.5


def test_an_operator_that_comes_back_late_does_not_count_the_wait():
    cluster = started(budget=PRICE)
    cluster.later(90).settle()
    hold(cluster.later(10))
    cluster.later(3600).settle()
    assert cluster.training.status.cost.run_seconds == 100 + 120  # they may have saved that long


def test_our_own_stop_is_not_counted_for_longer_than_pods_may_take():
    cluster = started(budget=PRICE)
    cluster.later(100)
    suspend(cluster, True)
    cluster.step()
    hold(cluster)
    cluster.later(3600).settle()
    assert cluster.training.status.attempts[0].run_seconds == 100 + 120


def test_a_suspension_that_nobody_saw_counts_what_was_told_before():
    cluster = started(budget=PRICE)
    cluster.later(90).settle()
    hold(cluster.later(30))
    release(cluster.later(600))
    cluster.later(60).settle()
    (attempt,) = cluster.training.status.attempts
    assert (attempt.earlier_run_seconds, cluster.training.status.cost.run_seconds) == (90, 150)
    cluster.end(0, ended(message=done(), at=cluster.now), failed=False)
    cluster.settle()
    assert cluster.training.status.cost.run_seconds == 150


def test_a_nodes_clock_that_lags_is_no_new_run():
    cluster = Cluster(training(budget=PRICE))
    cluster.settle()
    cluster.jobs[0]["status"]["startTime"] = rfc3339(T0 + timedelta(seconds=5))
    cluster.run(0)
    cluster.later(90).settle()
    cluster.later(90).settle()
    assert cluster.training.status.attempts[0].earlier_run_seconds is None
    assert cluster.training.status.cost.run_seconds == 180


def test_a_person_who_suspends_the_training_ends_the_attempt():
    cluster = started()
    hold(cluster)
    cluster.settle()
    suspend(cluster, True)
    assert cluster.decide().actions == (StopJob("sft-0", "Suspended"),)
    cluster.settle()
    assert cluster.training.status.state == "Suspended"
    assert cluster.training.status.attempts[0].reason == "Suspended"
    suspend(cluster, False)
    cluster.settle()
    assert cluster.jobs_made == [0, 1]


def test_pods_that_still_save_are_running():
    cluster = started()
    hold(cluster)
    cluster.pods[0] = [pod(0, "Running", deleted=True, startTime=rfc3339(T0))]
    cluster.settle()
    assert status_of(cluster, "Running")[:2] == ("True", "JobSuspended")


def test_a_job_that_is_resumed_against_our_stop_is_deleted():
    cluster = started()
    suspend(cluster, True)
    cluster.step()
    cluster.jobs[0]["spec"]["suspend"] = False
    assert cluster.decide().actions == (DeleteChild("Job", "sft-0", "job-0"),)
    cluster.settle()
    assert cluster.training.status.state == "Suspended"


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        (
            [
                ("QuotaReserved", "False", "insufficient unused quota for cpu"),
                ("Evicted", "True", ""),
            ],
            "Kueue: insufficient unused quota for cpu",
        ),
        ([("Evicted", "True", "Preempted by wl-7")], "Kueue: Preempted by wl-7"),
        ([("QuotaReserved", "True", "reserved"), ("Admitted", "False", "")], ""),
        ([], ""),
    ],
)
def test_kueue_says_why(conditions, wanted):
    told = [{"type": t, "status": s, "message": m} for t, s, m in conditions]
    assert workload_says({"status": {"conditions": told}}) == wanted
