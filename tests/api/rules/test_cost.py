"""What runs cost: pods, their GPUs and CPUs, prices, limits; by hand-made figures."""

import pytest
from policy_api.rules.cost import Held, Spent, cost, held, held_by_pod, left, spent, usd_per_hour
from policy_api.rules.quantity import is_quantity, quantity
from policy_api.v1alpha1.budget import Budget
from policy_api.v1alpha1.compute import Compute


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
        (resources(requests={"cpu": "nan"}), 1.0),
        (resources(requests={"cpu": "1e999"}), 1.0),
        (resources(requests={"cpu": -2}), 1.0),
        (resources(requests={"cpu": "many"}), 1.0),
        (resources(requests={"cpu": ""}), 1.0),
    ],
)
def test_a_pod_has_the_cpus_that_it_asks_for(made, wanted):
    assert held(made).cpus == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (compute(), 0),
        (compute(nodes=2, gpusPerNode=4), 8),
        (compute(nodes=2, resources={"limits": {"nvidia.com/gpu": "4"}}), 8),
        (compute(gpusPerNode=4, resources={"requests": {"nvidia.com/gpu": 4}}), 4),
        (resources(limits={"amd.com/gpu": 2}), 2),
        (resources(requests={"gpu.intel.com/i915": 1}), 1),
        (resources(limits={"gpu.intel.com/xe": "1", "gpu.intel.com/memory.max": "16G"}), 1),
        (resources(limits={"nvidia.com/mig-1g.10gb": 3, "nvidia.com/mig-2g.20gb": 1}), 4),
        (resources(limits={"nvidia.com/gpu.shared": 1, "smarter-devices/fuse": 1}), 1),
        (resources(limits={"nvidia.com/gpu": "lots"}), 0),
    ],
)
def test_gpus_are_counted_by_any_name(made, wanted):
    assert held(made).gpus == wanted


def container(cpu=None, *, name="trainer", always=False, **limits):
    requests = {"cpu": cpu} if cpu else {}
    made = {"name": name, "resources": {"requests": requests, "limits": limits}}
    return {**made, "restartPolicy": "Always"} if always else made


GPU = {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize(
    ("spec", "cpus", "gpus"),
    [
        ({"containers": [container()]}, 1, 0),
        ({"containers": [container("500m")]}, 0.5, 0),
        ({"containers": [container("4", **GPU)]}, 4, 2),
        ({"containers": [container(cpu="2"), container("250m", name="mesh")]}, 2.25, 0),
        ({"containers": [container("2"), container(name="mesh")]}, 2, 0),
        (
            {
                "containers": [container("2")],
                "initContainers": [container("1", name="mesh", always=True)],
            },
            3,
            0,
        ),
        ({"containers": [container("2")], "initContainers": [container("8", name="get")]}, 8, 0),
        (
            {
                "containers": [container("2")],
                "initContainers": [
                    container("1", name="mesh", always=True),
                    container("8", name="get"),
                ],
            },
            9,
            0,
        ),
        ({"containers": [container("2")], "overhead": {"cpu": "250m", "memory": "64Mi"}}, 2.25, 0),
        ({"containers": [container("2")], "resources": {"requests": {"cpu": "6"}}}, 6, 0),
        ({}, 0, 0),
    ],
    ids=[
        "nothing said",
        "a LimitRange's default",
        "GPUs",
        "a container beside it",
        "one that asks for nothing",
        "a sidecar",
        "a larger init container",
        "a sidecar and an init container after it",
        "overhead",
        "of the whole pod",
        "no containers",
    ],
)
def test_a_pod_holds_what_the_scheduler_counts(spec, cpus, gpus):
    found = held_by_pod(spec, "trainer")
    assert (found.cpus, found.gpus) == (pytest.approx(cpus), gpus)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("100m", 0.1), ("1Ki", 1024), (2, 2), ("1.5", 1.5), (".5", 0.5), ("2e3", 2000), ("-1", 0)],
)
def test_quantities_are_read(text, wanted):
    assert quantity(text) == pytest.approx(wanted)
    assert is_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "m", "1 m", "1mm", "nan", "inf", "0x1", "1_0", True, 1.5, None]
)
def test_what_is_no_quantity_is_told(text):
    assert not is_quantity(text)


L4 = held(compute(nodes=2, gpusPerNode=4, resources={"requests": {"cpu": "8"}}))
ONE = held(compute())


@pytest.mark.parametrize(
    ("prices", "made", "wanted"),
    [
        ({"usdPerGPUHour": 0.71}, L4, 8 * 0.71),
        ({"usdPerCPUHour": 0.04}, L4, 16 * 0.04),
        ({"usdPerGPUHour": 0.71, "usdPerCPUHour": 0.04}, L4, 8 * 0.71 + 16 * 0.04),
        ({"usdPerGPUHour": 0.71}, ONE, None),
        ({}, L4, None),
    ],
)
def test_an_hour_costs_all_pods(prices, made, wanted):
    found = usd_per_hour(budget(**prices), made)
    assert found == (None if wanted is None else pytest.approx(wanted))


def test_without_a_budget_time_is_counted_and_nothing_is_limited():
    assert usd_per_hour(None, L4) is None
    assert left(None, L4, Spent()) == {}
    found = cost(None, L4, spent(100, L4), seconds_left=50)
    assert (found.run_seconds, found.gpu_seconds, found.cpu_seconds) == (100, 800, 1600)
    assert (found.usd, found.estimated_usd) == (None, None)


def test_a_cost_is_time_times_price():
    prices = budget(usdPerGPUHour=0.71, usdPerCPUHour=0.04, estimatedUSD=30)
    hourly = 8 * 0.71 + 16 * 0.04
    assert cost(prices, L4, spent(1800, L4)).usd == pytest.approx(hourly / 2)


def test_what_was_spent_with_gpus_is_paid_for_by_pods_that_have_none():
    prices = budget(usdPerGPUHour=0.5)
    assert cost(prices, ONE, spent(3600, L4) + spent(3600, ONE)).usd == 4


@pytest.mark.parametrize(("seconds", "wanted"), [(None, 30), (0, 30), (3600, 2 * 8 * 0.71)])
def test_the_estimate_is_the_budgets_until_the_trainer_knows_better(seconds, wanted):
    prices = budget(usdPerGPUHour=0.71, estimatedUSD=30)
    found = cost(prices, L4, spent(3600, L4), seconds_left=seconds)
    assert found.estimated_usd == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("fields", "made", "before", "wanted"),
    [
        ({"maxUSD": 100, "usdPerGPUHour": 0.5}, L4, Spent(), {"maxUSD": 100 / 4 * 3600}),
        ({"maxGPUHours": 16}, L4, Spent(), {"maxGPUHours": 2 * 3600}),
        (
            {"maxUSD": 100, "usdPerGPUHour": 0.5, "maxGPUHours": 16},
            L4,
            Spent(),
            {"maxUSD": 25 * 3600, "maxGPUHours": 2 * 3600},
        ),
        ({"maxUSD": 0.04, "usdPerCPUHour": 0.04}, ONE, Spent(), {"maxUSD": 3600}),
        ({"usdPerGPUHour": 0.5}, L4, Spent(), {}),
        ({"maxGPUHours": 16}, L4, spent(3600, L4), {"maxGPUHours": 3600}),
        # What four times as much held for an hour is four hours of this.
        (
            {"maxUSD": 1, "usdPerCPUHour": 0.1},
            ONE,
            spent(3600, Held(4, 0)),
            {"maxUSD": 6 * 3600},
        ),
    ],
)
def test_each_limit_is_a_time(fields, made, before, wanted):
    assert left(budget(**fields), made, before) == pytest.approx(wanted)
