"""How long a training has taken, and when its time is over. Pure.

`activeDeadlineSeconds` counts the time since the first attempt's start less the time that the
training was suspended: by a person, by whoever suspends its Job, or by the end of its budget or
deadline until that is raised. The status carries the seconds of suspensions that are over, and
since when one lasts; while one lasts the clock stands still, so nothing that is suspended dies of
its deadline.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.v1alpha1.training_status import PolicyTrainingStatus

from policy_operator.training.status import may_go_on
from policy_operator.training.types import AttemptView, SetDeadline, Training

# The Job controller counts from when it has seen a Job, and in whole seconds.
_EARLY = 2  # seconds that a Job's deadline may come before ours
_LATE = 10  # seconds that it may come later


@dataclass(frozen=True)
class Clock:
    """The time that a training has taken."""

    suspended_since: datetime | None
    suspended_seconds: int
    due: datetime | None
    """When its time is over; None without a limit, before its start, and while it is suspended."""

    def over(self, now: datetime, last_reason: str | None) -> bool:
        """Whether its time is over.

        Args:
            now: The time, UTC.
            last_reason: Why its last attempt ended: the Job controller may be a little earlier.
        """
        if self.due is None:
            return False
        early = _EARLY if last_reason == reasons.DEADLINE_EXCEEDED else 0
        return now + timedelta(seconds=early) >= self.due


def clock(
    training: Training, started_at: datetime | None, active: AttemptView | None, now: datetime
) -> Clock:
    """Read a training's clock, as it is if the training may go on now.

    Args:
        training: With the status that was written last.
        started_at: When its first attempt started.
        active: The attempt that is under way.
        now: The time, UTC.
    """
    if started_at is None:
        return Clock(None, 0, None)
    status = training.status
    since, seconds = _suspended_since(status), status.suspended_seconds or 0
    held = active is not None and active.suspended
    if training.spec.suspend or held:
        if since is None:
            at = active.suspended_at if held and active is not None else None
            since = max(min(at or now, now), started_at).replace(microsecond=0)
        return Clock(since, seconds, None)
    if since is not None:
        seconds += max(0, int((_resumed_at(active, since, now) - since).total_seconds()))
    limit = training.spec.active_deadline_seconds
    due = None if limit is None else started_at + timedelta(seconds=limit + seconds)
    return Clock(None, seconds, due)


def _suspended_since(status: PolicyTrainingStatus) -> datetime | None:
    if status.suspended_since is None and may_go_on(status):
        return status.finished_at
    return status.suspended_since


def _resumed_at(active: AttemptView | None, since: datetime, now: datetime) -> datetime:
    """Return when a suspension ended: as the Job says, if it was the Job that was suspended."""
    resumed = active.job_started_at if active is not None else None
    return resumed if resumed is not None and since <= resumed <= now else now


def keep_deadline(active: AttemptView, due: datetime | None) -> tuple[SetDeadline, ...]:
    """Return what makes the Job end when the training's time is over, if it would not.

    So the limit holds while the operator is away; it may be changed, and a Job that is resumed
    after a suspension counts from zero.
    """
    start, have = active.job_started_at, active.deadline_seconds
    if start is None or active.suspended or active.stopping:
        return ()
    wanted = None if due is None else max(1, math.ceil((due - start).total_seconds()))
    if wanted is not None and have is not None and -_LATE <= wanted - have <= 1:
        return ()
    return () if wanted == have else (SetDeadline(active.job, wanted),)
