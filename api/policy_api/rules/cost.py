"""What a run costs: seconds of its pods, their GPUs and CPUs, the budget's prices. Pure."""

from typing import Any

from policy_api.v1alpha1.budget import Budget, Cost
from policy_api.v1alpha1.training import Compute

HOUR = 3600
DIGITS = 6  # of a USD: a second of a CPU costs some 1e-5
_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}  # of Kubernetes quantities


def cpus(compute: Compute) -> float:
    """Return the CPUs of one pod: as requested, or else as limited; one if nothing is said."""
    resources = compute.resources or {}
    for part in ("requests", "limits"):
        if (wanted := (resources.get(part) or {}).get("cpu")) is not None:
            return _quantity(wanted)
    return 1.0


def _quantity(value: Any) -> float:
    """Read a Kubernetes quantity; what is none counts as one: no pod will be made of it."""
    text = str(value)
    try:
        return float(text[:-1]) * _SUFFIXES[text[-1]] if text[-1:] in _SUFFIXES else float(text)
    except ValueError:
        return 1.0


def gpus(compute: Compute) -> int:
    """Return the GPUs of all pods."""
    return compute.nodes * compute.gpus_per_node


def usd_per_hour(budget: Budget | None, compute: Compute) -> float | None:
    """Return the price of all pods for an hour; None when the budget has no price for them."""
    if budget is None:
        return None
    parts = []
    if budget.usd_per_gpu_hour is not None and compute.gpus_per_node:
        parts.append(gpus(compute) * budget.usd_per_gpu_hour)
    if budget.usd_per_cpu_hour is not None:
        parts.append(compute.nodes * cpus(compute) * budget.usd_per_cpu_hour)
    return sum(parts) if parts else None


def cost(
    budget: Budget | None, compute: Compute, seconds: int, *, seconds_left: int | None = None
) -> Cost:
    """Return what a run of some seconds costs.

    Args:
        budget: Its prices.
        compute: How many pods it has, with what in each.
        seconds: How long its pods ran, over all attempts.
        seconds_left: How long they will still run, if they do and somebody knows.
    """
    hourly = usd_per_hour(budget, compute)
    estimated = budget.estimated_usd if budget is not None else None
    if seconds_left and hourly is not None:
        estimated = _usd(hourly, seconds + seconds_left)
    return Cost(
        run_seconds=seconds,
        gpu_seconds=seconds * gpus(compute),
        cpu_seconds=round(seconds * compute.nodes * cpus(compute)),
        usd=None if hourly is None else _usd(hourly, seconds),
        estimated_usd=estimated,
    )


def _usd(hourly: float, seconds: int) -> float:
    return round(hourly * seconds / HOUR, DIGITS)


def limits(budget: Budget | None, compute: Compute) -> dict[str, float]:
    """Return how many seconds the pods may run, over all attempts, by the limit's field."""
    found: dict[str, float] = {}
    hourly = usd_per_hour(budget, compute)
    if budget is None:
        return found
    if budget.max_usd is not None and hourly:
        found["maxUSD"] = budget.max_usd / hourly * HOUR
    if budget.max_gpu_hours is not None and gpus(compute):
        found["maxGPUHours"] = budget.max_gpu_hours / gpus(compute) * HOUR
    return found
