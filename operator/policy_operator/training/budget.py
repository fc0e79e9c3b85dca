"""What a training has cost so far, and whether it may go on. Pure.

The status carries the seconds of each attempt that it lists and the sum over all: what is not in
the list any more is the difference. A running attempt is told once a minute, but judged exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from policy_api.rules import cost
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.training import Attempt, PolicyTrainingSpec, PolicyTrainingStatus, Progress

from policy_operator.training.attempts import COUNT_EVERY, lasted
from policy_operator.training.types import Training

# So long before the limit the trainer is told to stop, to save its checkpoint within the budget…
_MARGIN = timedelta(seconds=120)
_MARGIN_PART = 0.05  # …but no more than this part of a small budget.


@dataclass(frozen=True)
class Spending:
    """What has been spent, and what is left."""

    seconds: int
    """How long the pods of all attempts ran, as the status tells it."""
    exceeded: str | None
    """A sentence that says which limit is reached."""
    left_seconds: float | None
    """How long the pods may still run; None without a limit."""
    look_again: datetime | None
    """When there is something to write or to stop."""


def spending(training: Training, attempts: Sequence[Attempt], now: datetime) -> Spending:
    """Return what a training has spent.

    Args:
        training: With the status that was written last.
        attempts: Its attempts, brought up to date.
        now: The time, UTC.
    """
    spec = training.spec
    seconds = _sum(training.status, attempts)
    running = attempts[-1] if attempts and attempts[-1].ended_at is None else None
    if running is not None and running.running_since is None:
        running = None
    extra = lasted(running, now) - (running.run_seconds or 0) if running is not None else 0
    limits = cost.limits(spec.budget, spec.compute)
    first = min(limits, key=lambda name: limits[name], default=None)
    left, margin, exceeded = None, 0.0, None
    if first is not None:
        left = limits[first] - seconds - extra
        margin = min(_MARGIN.total_seconds(), limits[first] * _MARGIN_PART)
        if left <= margin:
            exceeded = _sentence(training, first, seconds + extra, attempts[-1].index + 1)
    look_again = None
    if running is not None and spec.budget is not None and exceeded is None:
        look_again = now + max(timedelta(seconds=1), COUNT_EVERY - timedelta(seconds=extra))
        if left is not None:
            look_again = min(look_again, now + timedelta(seconds=left - margin))
    return Spending(seconds, exceeded, left, look_again)


def _sum(status: PolicyTrainingStatus, attempts: Sequence[Attempt]) -> int:
    """Return the seconds of all attempts, also of those that the status does not list any more."""
    before = status.cost.run_seconds if status.cost is not None else 0
    forgotten = before - sum(a.run_seconds or 0 for a in status.attempts)
    # The Job of an attempt that is not listed any more may still be there and be seen again.
    oldest = min((a.index for a in status.attempts), default=0)
    listed = sum(a.run_seconds or 0 for a in attempts if a.index >= oldest)
    return max(0, forgotten) + listed


def _sentence(training: Training, limit: str, seconds: int, attempts: int) -> str:
    """Say what has used up a limit, which is a field of the budget."""
    budget = training.spec.budget
    assert budget is not None  # without one there is no limit
    spent = cost.cost(budget, training.spec.compute, seconds)
    if limit == "maxUSD":
        wanted, what = budget.max_usd, f"{spent.usd:.4g} USD"
    else:
        wanted, what = budget.max_gpu_hours, f"{spent.gpu_seconds / cost.HOUR:.4g} GPU hours"
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return f"{what} in {times} use up budget.{limit} {wanted:g}"


def price(spec: PolicyTrainingSpec, seconds: int, progress: Progress | None) -> Cost:
    """Return what a training has cost, and what it will have, by its trainer's time left."""
    left = progress.remaining_seconds if progress is not None else None
    return cost.cost(spec.budget, spec.compute, seconds, seconds_left=left)


def spent_before(status: PolicyTrainingStatus, index: int) -> int:
    """Return how long the pods of the attempts before this one ran."""
    if status.cost is None:
        return 0
    return status.cost.run_seconds - sum(
        a.run_seconds or 0 for a in status.attempts if a.index >= index
    )
