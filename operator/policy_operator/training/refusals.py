"""What the API server refuses: to make, to change or to delete something. Pure."""

from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.keys import COND_RUNNING
from policy_api.rules.conditions import get_condition

from policy_operator.machinery.events import Event
from policy_operator.training.status import ASK_AGAIN, TrainingState, sooner
from policy_operator.training.types import AttemptView, Change, Decision

_FIRST_TRY, _LAST_TRY = timedelta(seconds=5), timedelta(seconds=120)
_CHANGE_AGAIN = timedelta(minutes=5)  # what holds up nobody's work


def refused(state: TrainingState, message: str) -> tuple[TrainingState, datetime]:
    """Say that the API server refuses a child for now, and when to try again.

    Soon, then after as long as it has been refused, up to two minutes.
    """
    before, waited = state.training.status, timedelta()
    old = get_condition(before.conditions, COND_RUNNING)
    if before.state == reasons.REFUSED and old is not None:
        waited = state.now - old.last_transition_time
    again = state.now + min(_LAST_TRY, max(_FIRST_TRY, waited))
    return state.running(reasons.REFUSED, message), again


def cannot_stop(state: TrainingState, active: AttemptView, message: str) -> Decision:
    """Say that an attempt that should stop runs on, and costs money."""
    state = state.running(reasons.REFUSED, message, really=active.running)
    return Decision(state.status, next_check_at=state.now + ASK_AGAIN)


def without_changes(decision: Decision, message: str | None, now: datetime) -> Decision:
    """Leave what the API server lets nobody change or delete, tell it, and try again later.

    Args:
        decision: What should be done.
        message: The API server's words; None: it has refused no change.
        now: The time, UTC.
    """
    left = tuple(action for action in decision.actions if not isinstance(action, Change))
    if message is None or left == decision.actions:  # what was refused is in the status already
        return decision
    due, again = decision.next_check_at, now + _CHANGE_AGAIN
    return Decision(
        decision.status,
        left,
        # What was due at once is what is refused.
        sooner(due, again) if due is not None and due > now else again,
        (*decision.events, Event("Warning", reasons.REFUSED, message)),
    )
