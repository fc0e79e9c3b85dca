"""The next attempt of a training: what it waits for, and its start. Pure."""

import math
from datetime import datetime

from policy_api import reasons, skew
from policy_api.rules.needs import BASE
from policy_api.v1alpha1.training_status import Attempt

from policy_operator.machinery.events import Event
from policy_operator.training.attempts import next_start
from policy_operator.training.dependencies import taken_sentence
from policy_operator.training.refusals import refused
from policy_operator.training.status import ASK_AGAIN, TrainingState, sooner
from policy_operator.training.types import Decision, Failed, Observed, Ready, StartAttempt, Waiting


def start(
    state: TrainingState,
    attempts: tuple[Attempt, ...],
    observed: Observed,
    deadline: datetime | None,
    run_seconds: float | None,
) -> Decision:
    """Start the next attempt, or say what it waits for.

    Args:
        state: The status so far.
        attempts: Those that have ended.
        observed: What is.
        deadline: When the training's time is over.
        run_seconds: How long the budget lets its pods run; None without a limit.
    """
    if state.training.unknown is not None:
        waiting = state.running(reasons.UNKNOWN_FIELD, skew.waits(state.training.unknown))
        return Decision(waiting.status, next_check_at=deadline)
    ready = all_ready(observed)
    if ready is None:
        return _wait(state, observed, deadline)
    status, index, after = state.training.status, 0, taken_sentence(ready)
    if attempts:
        last = attempts[-1]
        index, after = last.index + 1, f" after attempt {last.index} ({last.reason})"
        message = f"attempt {last.index} ended ({last.reason}): {last.message}"
        status = state.running(reasons.RETRYING, message).status
        at = next_start(attempts)
        if observed.pods_left:
            return Decision(status, next_check_at=deadline)
        if at is not None and state.now < at:
            return Decision(status, next_check_at=sooner(at, deadline))
    if (blocked := _blocked(state, observed)) is not None:
        state, again = blocked
        return Decision(state.status, next_check_at=sooner(again, deadline))

    left = state.training.spec.active_deadline_seconds
    if deadline is not None:
        left = max(1, math.ceil((deadline - state.now).total_seconds()))
    paid = None if run_seconds is None else max(1, math.ceil(run_seconds))
    # The Job comes first, alone. The status that speaks of it and its other children follow from
    # it in the next round, so that in a burst no Job waits for the trimmings of another.
    job = f"{state.training.meta.name}-{index}"
    return Decision(
        status,
        actions=(StartAttempt(index, ready, left, paid, status.trainer_image),),
        next_check_at=state.now,
        events=(Event("Normal", reasons.ATTEMPT_STARTED, f"Job {job} is made{after}"),),
    )


def _blocked(state: TrainingState, observed: Observed) -> tuple[TrainingState, datetime] | None:
    """Say what is in the way of the next Job, if anything is, and when to look again."""
    if observed.leftover is not None:
        waiting = state.running(reasons.WAITING_FOR_DELETION, observed.leftover)
        return waiting, state.now + ASK_AGAIN
    if observed.refusal is not None:
        return refused(state, observed.refusal.message)
    return None


def all_ready(observed: Observed) -> dict[str, Ready] | None:
    """Return the versions that the training needs; None when one is not there."""
    found = {r: d for r, d in observed.dependencies.items() if isinstance(d, Ready)}
    return found if len(found) == len(observed.dependencies) else None


def _wait(state: TrainingState, observed: Observed, deadline: datetime | None) -> Decision:
    """Fail with the first version that will never come, or wait for the first that may."""
    for role, needed in observed.dependencies.items():
        if isinstance(needed, Failed):
            reason = reasons.BASE_FAILED if role == BASE else reasons.REFERENCE_FAILED
            return Decision(state.ended(False, needed.reason or reason, needed.message).status)
    waits = {r: d for r, d in observed.dependencies.items() if isinstance(d, Waiting)}
    role, first = next(iter(waits.items()))
    reason = reasons.WAITING_FOR_BASE if role == BASE else reasons.WAITING_FOR_REFERENCE
    due = sooner(deadline, *(d.until for d in waits.values()))
    return Decision(state.running(reason, first.message).status, next_check_at=due)
