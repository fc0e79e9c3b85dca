"""What a training has cost so far, and whether it may go on. Pure.

The status carries the seconds of each attempt that it lists, what its pods held, and the sums over
all: what is not in the list any more is the difference. A running attempt is told once a minute,
but judged exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from policy_api.rules import cost
from policy_api.rules.cost import Held, Spent
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import Attempt, PolicyTrainingStatus, Progress

from policy_operator.training.attempts import COUNT_EVERY, lasted
from policy_operator.training.types import AttemptView, Training

# So long before the limit the trainer is told to stop, to save its checkpoint within the budget…
_MARGIN = timedelta(seconds=120)
_MARGIN_PART = 0.05  # …but no more than this part of a small budget.


@dataclass(frozen=True)
class Spending:
    """What has been spent, and what is left."""

    spent: Spent
    """What the pods of all attempts have spent, as the status tells it."""
    held: Held
    """What the pods of the newest attempt hold, and those of the next one will."""
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
    spent = _sum(training, attempts)
    held = _held(attempts[-1] if attempts else None, spec)
    running = attempts[-1] if attempts and attempts[-1].ended_at is None else None
    if running is not None and running.running_since is None:
        running = None
    extra = lasted(running, now) - (running.run_seconds or 0) if running is not None else 0
    whole = cost.left(spec.budget, held, Spent())
    remaining = cost.left(spec.budget, held, spent)
    first = min(remaining, key=lambda name: remaining[name], default=None)
    left, margin, exceeded = None, 0.0, None
    if first is not None:
        left = remaining[first] - extra
        margin = min(_MARGIN.total_seconds(), whole[first] * _MARGIN_PART)
        if left <= margin:
            exact = spent + cost.spent(extra, held)
            exceeded = _sentence(training, first, exact, held, attempts[-1].index + 1)
    look_again = None
    if running is not None and spec.budget is not None and exceeded is None:
        look_again = now + max(timedelta(seconds=1), COUNT_EVERY - timedelta(seconds=extra))
        if left is not None:
            look_again = min(look_again, now + timedelta(seconds=left - margin))
    return Spending(spent, held, exceeded, left, look_again)


def with_resources(
    known: Sequence[Attempt], attempts: Sequence[Attempt], views: Sequence[AttemptView]
) -> tuple[Attempt, ...]:
    """Note what the pods of each attempt hold; what was noted stays when they are gone."""
    before = {
        a.index: Held(a.cpus, a.gpus) for a in known if a.cpus is not None and a.gpus is not None
    }
    seen = before | {v.index: v.held for v in views if v.held is not None}
    return tuple(
        a.model_copy(update={"cpus": seen[a.index].cpus, "gpus": seen[a.index].gpus})
        if a.index in seen
        else a
        for a in attempts
    )


def _held(attempt: Attempt | None, spec: PolicyTrainingSpec) -> Held:
    """Return what an attempt's pods hold: as was seen, or else as the spec says."""
    if attempt is None or attempt.cpus is None or attempt.gpus is None:
        return cost.held(spec.compute)
    return Held(attempt.cpus, attempt.gpus)


def _spent(attempts: Iterable[Attempt], spec: PolicyTrainingSpec) -> Spent:
    each = (cost.spent(a.run_seconds or 0, _held(a, spec)) for a in attempts)
    return sum(each, Spent())


def _sum(training: Training, attempts: Sequence[Attempt]) -> Spent:
    """Return what all attempts have spent, also those that the status does not list any more."""
    status, spec = training.status, training.spec
    forgotten = cost.told(status.cost).beyond(_spent(status.attempts, spec))
    # The Job of an attempt that is not listed any more may still be there and be seen again.
    oldest = min((a.index for a in status.attempts), default=0)
    return forgotten + _spent((a for a in attempts if a.index >= oldest), spec)


def _sentence(training: Training, limit: str, spent: Spent, held: Held, attempts: int) -> str:
    """Say what has used up a limit, which is a field of the budget."""
    budget = training.spec.budget
    assert budget is not None  # without one there is no limit
    if limit == "maxUSD":
        wanted, what = budget.max_usd, f"{cost.usd(budget, spent, held):.4g} USD"
    else:
        wanted, what = budget.max_gpu_hours, f"{spent.gpu_seconds / cost.HOUR:.4g} GPU hours"
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return f"{what} in {times} use up budget.{limit} {wanted:g}"


def price(spec: PolicyTrainingSpec, spending: Spending, progress: Progress | None) -> Cost:
    """Return what a training has cost, and what it will have, by its trainer's time left."""
    left = progress.remaining_seconds if progress is not None else None
    return cost.cost(spec.budget, spending.held, spending.spent, seconds_left=left)


def spent_before(status: PolicyTrainingStatus, index: int) -> int:
    """Return how long the pods of the attempts before this one ran."""
    if status.cost is None:
        return 0
    return status.cost.run_seconds - sum(
        a.run_seconds or 0 for a in status.attempts if a.index >= index
    )
