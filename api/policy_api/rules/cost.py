"""What a run costs: seconds of its pods, their GPUs and CPUs, the budget's prices. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_api.rules.quantity import quantity
from policy_api.v1alpha1.budget import Budget, Cost
from policy_api.v1alpha1.compute import Compute
from policy_api.v1alpha1.resources import NVIDIA_GPU, RESOURCE_PARTS, is_gpu

HOUR = 3600
DIGITS = 6  # of a USD: a second of a CPU costs some 1e-5
_UNSAID = 1.0  # CPUs of a trainer whose pod says nothing about them


@dataclass(frozen=True)
class Held:
    """What pods hold while they run, whether they use it or not."""

    cpus: float
    gpus: int


@dataclass(frozen=True)
class Spent:
    """How long pods ran, and how long they held what they held."""

    seconds: int = 0
    gpu_seconds: int = 0
    cpu_seconds: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Return the sum."""
        return Spent(
            self.seconds + other.seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.cpu_seconds + other.cpu_seconds,
        )

    def beyond(self, other: "Spent") -> "Spent":
        """Return what this is more than another one, part by part."""
        return Spent(
            max(0, self.seconds - other.seconds),
            max(0, self.gpu_seconds - other.gpu_seconds),
            max(0, self.cpu_seconds - other.cpu_seconds),
        )


def spent(seconds: float, held: Held) -> Spent:
    """Return what pods have spent that held something for so long."""
    return Spent(int(seconds), round(seconds * held.gpus), round(seconds * held.cpus))


def told(cost: Cost | None) -> Spent:
    """Return what a status says was spent."""
    if cost is None:
        return Spent()
    return Spent(cost.run_seconds, cost.gpu_seconds, cost.cpu_seconds)


def held(compute: Compute) -> Held:
    """Return what all pods of a training will hold, by its spec."""
    resources = dict(compute.resources or {})
    if compute.gpus_per_node:
        limits = {**(resources.get("limits") or {}), NVIDIA_GPU: compute.gpus_per_node}
        resources["limits"] = limits
    one = _container(resources)
    return times(compute.nodes, Held(one.get("cpu", _UNSAID), _gpus(one)))


def times(pods: int, each: Held) -> Held:
    """Return what so many pods hold."""
    return Held(pods * each.cpus, pods * each.gpus)


def held_by_pod(spec: Mapping[str, Any], trainer: str) -> Held:
    """Return what one pod holds, by the rules of the scheduler.

    It is what its containers request together, or one of its init containers if that is more.
    Sidecars, which are init containers that go on, count with both, the pod's overhead as well.

    Args:
        spec: Of the pod, as the API server has it: a LimitRange's defaults are in it.
        trainer: Name of the container that counts as one CPU if it says nothing.
    """
    whole: dict[str, float] = {}
    for container in spec.get("containers") or ():
        asked = _container(container.get("resources") or {})
        if container.get("name") == trainer:
            asked.setdefault("cpu", _UNSAID)
        _add(whole, asked)
    sidecars: dict[str, float] = {}
    for container in spec.get("initContainers") or ():
        asked = _container(container.get("resources") or {})
        if container.get("restartPolicy") == "Always":
            _add(whole, asked)
            _add(sidecars, asked)
            continue
        _add(asked, sidecars)
        whole = {name: max(whole.get(name, 0), asked.get(name, 0)) for name in {**whole, **asked}}
    whole |= _container(spec.get("resources") or {})  # of the whole pod
    overhead = spec.get("overhead") or {}
    _add(whole, {name: quantity(value) for name, value in overhead.items()})
    return Held(whole.get("cpu", 0.0), _gpus(whole))


def _container(resources: Mapping[str, Any]) -> dict[str, float]:
    """Return what a container asks for: its requests, and limits where it requests nothing."""
    asked: dict[str, float] = {}
    for part in reversed(RESOURCE_PARTS):
        for name, value in (resources.get(part) or {}).items():
            asked[name] = quantity(value, _UNSAID if name == "cpu" else 0.0)
    return asked


def _add(to: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        to[name] = to.get(name, 0.0) + value


def _gpus(asked: Mapping[str, float]) -> int:
    return int(sum(value for name, value in asked.items() if is_gpu(name)))


def usd_per_hour(budget: Budget | None, held: Held) -> float | None:
    """Return the price of an hour; None when the budget has no price for what is held."""
    return _usd(budget, held.gpus, held.cpus, gpu_priced=held.gpus > 0)


def usd(budget: Budget | None, spent: Spent, held: Held) -> float | None:
    """Return what was spent, at today's prices; None when the budget has none for it."""
    gpu_hours, cpu_hours = spent.gpu_seconds / HOUR, spent.cpu_seconds / HOUR
    return _usd(budget, gpu_hours, cpu_hours, gpu_priced=bool(held.gpus or spent.gpu_seconds))


def _usd(
    budget: Budget | None, gpu_hours: float, cpu_hours: float, *, gpu_priced: bool
) -> float | None:
    parts = []
    if budget is not None and budget.usd_per_gpu_hour is not None and gpu_priced:
        parts.append(gpu_hours * budget.usd_per_gpu_hour)
    if budget is not None and budget.usd_per_cpu_hour is not None:
        parts.append(cpu_hours * budget.usd_per_cpu_hour)
    return sum(parts) if parts else None


def cost(
    budget: Budget | None, held: Held, spent: Spent, *, seconds_left: int | None = None
) -> Cost:
    """Return what a run has cost.

    Args:
        budget: Its prices.
        held: What its pods hold now.
        spent: What they have spent, over all attempts.
        seconds_left: How long they will still run, if they do and somebody knows.
    """
    so_far, hourly = usd(budget, spent, held), usd_per_hour(budget, held)
    estimated = budget.estimated_usd if budget is not None else None
    if seconds_left and so_far is not None and hourly is not None:
        estimated = round(so_far + hourly * seconds_left / HOUR, DIGITS)
    return Cost(
        run_seconds=spent.seconds,
        gpu_seconds=spent.gpu_seconds,
        cpu_seconds=spent.cpu_seconds,
        usd=None if so_far is None else round(so_far, DIGITS),
        estimated_usd=estimated,
    )


def left(budget: Budget | None, held: Held, spent: Spent) -> dict[str, float]:
    """Return how many seconds pods that hold this may still run, by the limit's field."""
    found: dict[str, float] = {}
    so_far, hourly = usd(budget, spent, held), usd_per_hour(budget, held)
    if budget is None:
        return found
    if budget.max_usd is not None and so_far is not None and hourly:
        found["maxUSD"] = (budget.max_usd - so_far) / hourly * HOUR
    if budget.max_gpu_hours is not None and held.gpus:
        found["maxGPUHours"] = (budget.max_gpu_hours * HOUR - spent.gpu_seconds) / held.gpus
    return found
