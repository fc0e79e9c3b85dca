"""What runs cost: pods, their GPUs and CPUs, prices, limits; by hand-made figures."""

import pytest
from policy_api.rules.cost import cost, cpus, limits, usd_per_hour
from policy_api.v1alpha1.budget import Budget
from policy_api.v1alpha1.training import Compute


def compute(**fields):
    return Compute.model_validate(fields)


def budget(**fields):
    return Budget.model_validate(fields)


def resources(**parts):
    return compute(resources=parts)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (compute(), 1.0),
        (resources(requests={"memory": "1Gi"}), 1.0),
        (resources(requests={"cpu": "500m"}, limits={"cpu": "2"}), 0.5),
        (resources(limits={"cpu": 2}), 2.0),
        (resources(requests={"cpu": 1.5}), 1.5),
        (resources(requests={"cpu": "0.1"}), 0.1),
        (resources(requests={"cpu": "1k"}), 1000.0),
        (resources(requests={"cpu": "1e3m"}), 1.0),
        (resources(requests={"cpu": "many"}), 1.0),
        (resources(requests={"cpu": ""}), 1.0),
    ],
)
def test_a_pod_has_the_cpus_that_it_asks_for(made, wanted):
    assert cpus(made) == pytest.approx(wanted)


L4 = compute(nodes=2, gpusPerNode=4, resources={"requests": {"cpu": "8"}})


@pytest.mark.parametrize(
    ("prices", "made", "wanted"),
    [
        ({"usdPerGPUHour": 0.71}, L4, 8 * 0.71),
        ({"usdPerCPUHour": 0.04}, L4, 16 * 0.04),
        ({"usdPerGPUHour": 0.71, "usdPerCPUHour": 0.04}, L4, 8 * 0.71 + 16 * 0.04),
        ({"usdPerGPUHour": 0.71}, compute(), None),
        ({}, L4, None),
    ],
)
def test_an_hour_costs_all_pods(prices, made, wanted):
    found = usd_per_hour(budget(**prices), made)
    assert found == (None if wanted is None else pytest.approx(wanted))


def test_without_a_budget_time_is_counted_and_nothing_is_limited():
    assert usd_per_hour(None, L4) is None
    assert limits(None, L4) == {}
    found = cost(None, L4, 100, seconds_left=50)
    assert (found.run_seconds, found.gpu_seconds, found.cpu_seconds) == (100, 800, 1600)
    assert (found.usd, found.estimated_usd) == (None, None)


def test_a_cost_is_time_times_price():
    prices = budget(usdPerGPUHour=0.71, usdPerCPUHour=0.04, estimatedUSD=30)
    hourly = 8 * 0.71 + 16 * 0.04
    assert cost(prices, L4, 1800).usd == pytest.approx(hourly / 2)


@pytest.mark.parametrize(("left", "wanted"), [(None, 30), (0, 30), (3600, 2 * 8 * 0.71)])
def test_the_estimate_is_the_budgets_until_the_trainer_knows_better(left, wanted):
    prices = budget(usdPerGPUHour=0.71, estimatedUSD=30)
    assert cost(prices, L4, 3600, seconds_left=left).estimated_usd == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("fields", "made", "wanted"),
    [
        ({"maxUSD": 100, "usdPerGPUHour": 0.5}, L4, {"maxUSD": 100 / 4 * 3600}),
        ({"maxGPUHours": 16}, L4, {"maxGPUHours": 2 * 3600}),
        (
            {"maxUSD": 100, "usdPerGPUHour": 0.5, "maxGPUHours": 16},
            L4,
            {"maxUSD": 25 * 3600, "maxGPUHours": 2 * 3600},
        ),
        ({"maxUSD": 0.04, "usdPerCPUHour": 0.04}, compute(), {"maxUSD": 3600}),
        ({"usdPerGPUHour": 0.5}, L4, {}),
    ],
)
def test_each_limit_is_a_time(fields, made, wanted):
    assert limits(budget(**fields), made) == pytest.approx(wanted)
