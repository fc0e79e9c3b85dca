"""A training costs what its pods ran, over all attempts, and stops before it costs too much."""

from dataclasses import replace

import pytest
from policy_operator.machinery.progress import ReportedProgress
from policy_operator.settings import Settings
from policy_operator.training import build
from policy_operator.training.attempts import KEPT_ATTEMPTS
from policy_operator.training.types import StartAttempt, StopJob
from training_world import T0, Cluster, condition, done, ended, report, started, status_of, training

SETTINGS = Settings(namespace="system", trainer_image="registry.example/trainer:1")

# A second costs a cent.
PRICE = {"usdPerCPUHour": 36}
SENTENCE = "9.7 USD in 1 attempt use up budget.maxUSD 10"
TEN = {**PRICE, "maxUSD": 10}  # 1000 s, of which the last 50 are kept to save a checkpoint


def plan(index=0):
    return build.Plan(index=index, min_version=1, dependencies={}, ca="")


def cost(cluster):
    return cluster.training.status.cost


def with_budget(cluster, **budget):
    """Let a person change the budget."""
    spec = training(budget=budget).spec
    cluster.training = replace(cluster.training, spec=spec)


def preempt(cluster, index, **fields):
    pod = ended(code=75, message=report("Preempted", step=3), at=cluster.now, **fields)
    cluster.end(index, pod, failed=True)


def stopped(cluster, index):
    """Let the Job controller say that a suspended Job's pods are gone."""
    cluster.pods[index] = []
    cluster.jobs[index]["status"]["conditions"] = [
        condition("Suspended", "JobSuspended", cluster.now)
    ]


def test_waiting_for_a_node_is_free():
    cluster = Cluster(training(budget=TEN))
    cluster.settle()
    cluster.later(5000).settle()
    assert cost(cluster).usd == 0
    cluster.run(0)
    cluster.later(100).settle()
    assert (cost(cluster).run_seconds, cost(cluster).usd) == (100, 1.0)


def test_a_running_attempt_is_told_once_a_minute():
    cluster = started(budget=PRICE)
    told = []
    for _ in range(13):
        decision = cluster.later(10).settle()
        told.append(cost(cluster).run_seconds)
        assert decision.next_check_at > cluster.now
    assert told == [0] * 5 + [60] * 6 + [120] * 2
    assert (decision.next_check_at - T0).total_seconds() == 180


def test_without_a_budget_nobody_wakes_up_to_count():
    cluster = started()
    assert cluster.later(50).settle().next_check_at is None
    preempt(cluster, 0)
    cluster.settle()
    assert (cost(cluster).run_seconds, cost(cluster).cpu_seconds, cost(cluster).usd) == (
        50,
        50,
        None,
    )


def test_attempts_add_up_and_the_time_between_them_is_free():
    cluster = started(budget=TEN)
    cluster.later(100)
    preempt(cluster, 0)
    cluster.settle()
    cluster.later(1000).settle()
    cluster.run(1)
    cluster.later(30)
    cluster.end(1, ended(message=done(1), at=cluster.now), failed=False)
    cluster.settle()
    status = cluster.training.status
    assert [a.run_seconds for a in status.attempts] == [100, 30]
    assert (status.state, cost(cluster).usd) == ("Succeeded", 1.3)


def test_attempts_that_are_not_listed_any_more_still_count():
    cluster = started(budget=PRICE)
    times = KEPT_ATTEMPTS + 5
    for index in range(times):
        cluster.run(index)
        cluster.settle()
        cluster.later(100)
        preempt(cluster, index)
        cluster.settle()
    assert len(cluster.training.status.attempts) == KEPT_ATTEMPTS
    assert cost(cluster).run_seconds == 100 * times


def test_its_job_that_is_deleted_is_paid_for():
    cluster = started(budget=PRICE)
    cluster.later(70)
    del cluster.jobs[0]
    cluster.settle()
    assert cost(cluster).run_seconds == 70


def test_the_budget_stops_it_in_time_to_save_a_checkpoint():
    cluster = started(budget=TEN)
    decision = cluster.later(900).settle()
    assert (decision.next_check_at - T0).total_seconds() == 950
    decision = cluster.later(49).settle()
    assert decision.actions == ()
    assert cluster.later(1).step().actions == (StopJob("sft-0", "BudgetExceeded"),)
    assert status_of(cluster) == (
        "Unknown",
        "Suspending",
        "9.5 USD in 1 attempt use up budget.maxUSD 10: the trainer saves a checkpoint and stops",
    )
    assert cluster.later(20).settle().actions == ()
    stopped(cluster, 0)
    cluster.settle()
    assert status_of(cluster) == (
        "False",
        "BudgetExceeded",
        f"{SENTENCE}; raise it, and the training goes on from its checkpoint",
    )
    assert [(e.type, e.reason) for e in cluster.events[-1:]] == [("Warning", "BudgetExceeded")]
    assert cost(cluster).usd == 9.7


def over_budget():
    cluster = started(budget=TEN)
    cluster.later(960).settle()
    stopped(cluster, 0)
    cluster.settle()
    assert cluster.training.status.state == "BudgetExceeded"
    return cluster


@pytest.mark.parametrize(
    "budget", [{**PRICE, "maxUSD": 20}, {"usdPerCPUHour": 3.6, "maxUSD": 10}, {}]
)
def test_a_larger_budget_lets_it_go_on(budget):
    cluster = over_budget()
    assert cluster.later(5000).settle().actions == ()
    with_budget(cluster, **budget)
    cluster.settle()
    cluster.run(1)
    cluster.settle()
    status = cluster.training.status
    assert (status.state, status.finished_at) == ("Training", None)
    cluster.later(10)
    cluster.end(1, ended(message=done(1), at=cluster.now), failed=False)
    cluster.settle()
    assert cluster.training.status.state == "Succeeded"
    assert cost(cluster).run_seconds == 970


def test_a_budget_that_is_raised_too_little_is_still_used_up():
    cluster = over_budget()
    with_budget(cluster, **PRICE, maxUSD=9.9)
    assert cluster.settle().actions == ()
    assert cluster.training.status.state == "BudgetExceeded"


def test_only_the_budgets_end_is_taken_back():
    cluster = started(budget=TEN)
    cluster.end(0, ended(code=65, message=report("DataInvalid", message="row 3")), failed=True)
    cluster.settle()
    with_budget(cluster, **PRICE, maxUSD=100)
    assert cluster.settle().actions == ()
    assert cluster.training.status.state == "DataInvalid"


def test_a_run_that_completes_while_it_is_stopped_has_succeeded():
    cluster = started(budget=TEN)
    cluster.later(950).settle()
    cluster.end(0, ended(message=done(1), at=cluster.now), failed=False)
    cluster.settle()
    assert cluster.training.status.state == "Succeeded"


def test_gpu_hours_are_a_limit_of_their_own():
    gpus = {"nodes": 2, "gpusPerNode": 4}
    cluster = Cluster(training(compute=gpus, budget={"maxGPUHours": 8}))
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    assert cluster.later(3479).settle().actions == ()
    cluster.later(1).settle()
    stopped(cluster, 0)
    cluster.settle()
    assert status_of(cluster)[2].startswith(
        "7.733 GPU hours in 1 attempt use up budget.maxGPUHours 8; raise it"
    )


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({"maxUSD": 1, "maxGPUHours": 8}, "0.9722 USD in 1 attempt use up budget.maxUSD 1;"),
        (
            {"maxUSD": 99, "maxGPUHours": 0.01},
            "0.009722 GPU hours in 1 attempt use up budget.maxGPUHours 0.01;",
        ),
    ],
)
def test_the_limit_that_is_reached_is_named(limits, wanted):
    prices = {"usdPerGPUHour": 100}
    cluster = Cluster(training(compute={"gpusPerNode": 1}, budget={**prices, **limits}))
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    cluster.later(35).settle()
    stopped(cluster, 0)
    cluster.settle()
    assert status_of(cluster)[2].startswith(wanted)


def test_the_kubelet_ends_what_an_operator_that_is_away_does_not():
    cluster = started(budget=TEN)
    preempt(cluster.later(300), 0)
    assert cluster.step().actions == (StartAttempt(1, {}, None, 700),)
    cluster.run(1)
    cluster.settle()
    preempt(cluster.later(705), 1, reason="Error")
    cluster.pods[1][0]["status"]["reason"] = "DeadlineExceeded"
    cluster.settle()
    status = cluster.training.status
    assert status.attempts[-1].reason == "BudgetExceeded"
    assert (status.state, cost(cluster).usd) == ("BudgetExceeded", 10.05)


def test_a_pod_may_run_for_what_the_budget_has_left():
    made = training(budget=TEN)
    for seconds in (None, 700):
        job = build.job(made, replace(plan(), run_seconds=seconds), SETTINGS)
        assert job["spec"]["template"]["spec"].get("activeDeadlineSeconds") == seconds
        assert "activeDeadlineSeconds" not in job["spec"]


def test_run_json_says_what_was_spent_before():
    cluster = started(budget=TEN)
    preempt(cluster.later(300), 0)
    cluster.settle()
    cluster.run(1)
    cluster.later(90).settle()
    config = build.run_config(cluster.training, plan(1), SETTINGS)
    assert (config.spent_seconds, config.budget) == (300, cluster.training.spec.budget)


def test_the_estimate_follows_the_trainer_while_it_runs():
    cluster = started(budget={**PRICE, "estimatedUSD": 7})
    assert cost(cluster).estimated_usd == 7
    cluster.later(60)
    cluster.progress = ReportedProgress(at=cluster.now, percent=10, remaining_seconds=440)
    cluster.settle()
    assert (cost(cluster).usd, cost(cluster).estimated_usd) == (0.6, 5.0)
    cluster.progress = None
    cluster.end(0, ended(message=done(1), at=cluster.now), failed=False)
    cluster.settle()
    assert cost(cluster).estimated_usd == 7


def test_the_version_is_recorded_with_its_cost():
    cluster = started(budget=PRICE)
    cluster.later(100)
    cluster.end(0, ended(message=done(1), at=cluster.now), failed=False)
    decision = cluster.decide()
    (record,) = decision.actions
    told = decision.status.cost
    assert told.usd == 1.0
    spec = build.policy_version(cluster.training, record, told)["spec"]
    assert spec["cost"] == {"runSeconds": 100, "gpuSeconds": 0, "cpuSeconds": 100, "usd": 1.0}


def pod_spec(cpu, **limits):
    """A pod as admission made it."""
    resources = {"requests": {"cpu": cpu, **limits}, "limits": limits}
    return {"containers": [{"name": "trainer", "resources": resources}]}


def test_what_a_pod_really_holds_is_paid_for():
    """A LimitRange gave it four CPUs, which the spec says nothing of."""
    cluster = Cluster(training(budget=TEN), pod_spec=pod_spec("4"))
    cluster.settle()
    cluster.run(0)
    cluster.later(100).settle()
    assert (cost(cluster).cpu_seconds, cost(cluster).usd) == (400, 4.0)
    (attempt,) = cluster.training.status.attempts
    assert (attempt.cpus, attempt.gpus) == (4, 0)
    decision = cluster.later(100).settle()
    assert (decision.next_check_at - T0).total_seconds() == 237.5  # 9.5 USD
    cluster.later(38).settle()
    assert status_of(cluster)[2].startswith("9.52 USD in 1 attempt use up budget.maxUSD 10")


def test_an_attempt_keeps_its_price_when_its_pods_are_gone_and_the_next_hold_less():
    cluster = Cluster(training(budget=PRICE), pod_spec=pod_spec("4"))
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    cluster.later(100)
    preempt(cluster, 0)
    cluster.settle()
    cluster.pods[0], cluster.pod_spec = [], pod_spec("2")
    cluster.run(1)
    cluster.settle()
    cluster.later(60).settle()
    assert [a.cpus for a in cluster.training.status.attempts] == [4, 2]
    assert (cost(cluster).run_seconds, cost(cluster).cpu_seconds) == (160, 520)
    assert cost(cluster).usd == 5.2


def test_attempts_that_are_not_listed_any_more_keep_their_price():
    cluster = Cluster(training(budget=PRICE), pod_spec=pod_spec("4"))
    cluster.settle()
    times = KEPT_ATTEMPTS + 5
    for index in range(times):
        cluster.run(index)
        cluster.settle()
        cluster.later(100)
        preempt(cluster, index)
        cluster.settle()
        cluster.pod_spec = pod_spec("1")
    assert cost(cluster).cpu_seconds == 400 + 100 * (times - 1)


def test_gpus_that_only_resources_name_are_paid_for():
    compute = {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 2}}}
    cluster = Cluster(training(compute=compute, budget={"usdPerGPUHour": 36, "maxGPUHours": 1}))
    cluster.settle()
    cluster.run(0)
    cluster.later(100).settle()
    assert (cost(cluster).gpu_seconds, cost(cluster).usd) == (200, 2.0)
    cluster.later(1700).settle()
    assert status_of(cluster)[2].startswith("1 GPU hours in 1 attempt use up budget.maxGPUHours 1")


def test_a_status_from_before_pods_were_looked_at_is_priced_by_the_spec():
    cluster = started(budget=PRICE, compute={"resources": {"requests": {"cpu": "2"}}})
    preempt(cluster.later(100), 0)
    cluster.settle()
    status = cluster.training.status
    old = [a.model_copy(update={"cpus": None, "gpus": None}) for a in status.attempts]
    status = status.model_copy(update={"attempts": old})
    cluster.training = replace(cluster.training, status=status)
    cluster.pods[0] = []
    cluster.settle()
    assert (cost(cluster).cpu_seconds, cost(cluster).usd) == (200, 2.0)
