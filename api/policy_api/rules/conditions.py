"""Set a condition the way `meta.SetStatusCondition` does."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from policy_api.base import Condition

Status = Literal["True", "False", "Unknown"]


def get_condition(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """Return the condition of this type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def is_true(conditions: Sequence[Condition], kind: str) -> bool:
    """Whether the condition of this type is present with status True."""
    found = get_condition(conditions, kind)
    return found is not None and found.status == "True"


def set_condition(
    conditions: Sequence[Condition],
    kind: str,
    status: Status,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions with one set; the transition time moves only when the status does.

    Order is kept, so that writing the same verdict twice changes nothing.
    """
    old = get_condition(conditions, kind)
    since = old.last_transition_time if old is not None and old.status == status else now
    new = Condition(
        type=kind,
        status=status,
        observed_generation=generation,
        last_transition_time=since.replace(microsecond=0),
        reason=reason,
        message=message,
    )
    if old is None:
        return (*conditions, new)
    return tuple(new if c.type == kind else c for c in conditions)
