"""The row of a training's attempts: bring it up to date, count it, time the next one. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.training_status import Attempt, PolicyTrainingStatus

from policy_operator.training.patience import stalled_since
from policy_operator.training.types import GRACE_SECONDS, AttemptView, Child, End

KEPT_ATTEMPTS = 20  # in the status
KEPT_JOBS = 3  # of the newest attempts, with their pods: people read logs
# How attempts end that count against maxRetries.
FAILURES = (
    str(Outcome.TRAINER_FAILED),
    reasons.IMAGE_NOT_FOUND,
    reasons.CONTAINER_NOT_STARTED,
)
COUNT_EVERY = timedelta(seconds=60)  # the status tells the seconds of a running attempt this often
# An attempt that ends sooner than this has hardly trained; the next ones wait longer and longer.
_SHORT = timedelta(seconds=60)
_FIRST_RETRY = timedelta(seconds=5)
_LAST_RETRY = timedelta(seconds=300)


def merge_attempts(
    known: Sequence[Attempt], views: Sequence[AttemptView], now: datetime
) -> tuple[Attempt, ...]:
    """Bring the status's attempts up to date; an end that was recorded is never changed.

    An attempt that the status has, whose Job is neither seen nor recorded as ended, was deleted.
    """
    attempts = {a.index: a for a in known}
    seen = {v.index for v in views}
    for index, attempt in attempts.items():
        if attempt.ended_at is None and index not in seen:
            attempts[index] = attempt.model_copy(
                update={
                    "ended_at": now.replace(microsecond=0),
                    "run_seconds": lasted(attempt, now),
                    "reason": str(Outcome.PREEMPTED),
                    "message": f"Job {attempt.job} was deleted",
                }
            )
    for view in views:
        old = attempts.get(view.index)
        if old is not None and old.ended_at is not None:
            continue
        attempts[view.index] = _attempt(view, old, now)
    return tuple(attempts[index] for index in sorted(attempts))


def _attempt(view: AttemptView, old: Attempt | None, now: datetime) -> Attempt:
    if view.end is not None:
        return ended_attempt(view, view.end, old, now)
    attempt = old or Attempt(index=view.index, job=view.job, started_at=view.created_at)
    attempt = _run(attempt, view, now)
    attempt = attempt.model_copy(update={"stalled_since": stalled_since(view, old, now)})
    since = attempt.running_since
    seconds, told = lasted(attempt, now), attempt.run_seconds
    if told is not None and seconds - told < COUNT_EVERY.total_seconds():
        return attempt
    return attempt.model_copy(update={"run_seconds": seconds if since is not None else None})


def _run(attempt: Attempt, view: AttemptView, now: datetime) -> Attempt:
    """Note the start of the attempt's pods, and their end when its Job is suspended.

    A Job that somebody suspends and resumes runs its pods several times.
    """
    since = attempt.running_since
    if since is not None and view.suspended and not view.pods_active:
        seconds = lasted(attempt, _stopped_at(view, now))
        return attempt.model_copy(
            update={
                "running_since": None,
                "earlier_run_seconds": seconds,
                "run_seconds": seconds,
            }
        )
    if since is not None and _resumed_unseen(view, since):
        # Nobody saw when the run before ended: what was told of it is what is known.
        told = {"earlier_run_seconds": attempt.run_seconds, "running_since": view.running_since}
        return attempt.model_copy(update=told)
    if since is None and not (view.suspended and not view.pods_active):
        return attempt.model_copy(update={"running_since": view.running_since})
    return attempt


def _resumed_unseen(view: AttemptView, since: datetime) -> bool:
    """Whether the pods are of a later run than the one that we know of.

    Both must be later: some of the pods may be gone, and clocks of nodes differ.
    """
    started, resumed = view.running_since, view.job_started_at
    return started is not None and resumed is not None and started > since and resumed > since


def _stopped_at(view: AttemptView, now: datetime) -> datetime:
    """Return when the pods of a suspended Job were gone, at the latest."""
    if view.suspended_at is None:
        return now
    return min(now, view.suspended_at + timedelta(seconds=GRACE_SECONDS))


def lasted(attempt: Attempt, until: datetime) -> int:
    """Return the seconds that the attempt's pods ran until then; 0 when none has started."""
    before = attempt.earlier_run_seconds or 0
    if attempt.running_since is None:
        return before
    return before + max(0, int((until - attempt.running_since).total_seconds()))


def ended_attempt(view: AttemptView, end: End, old: Attempt | None, now: datetime) -> Attempt:
    """Return the status's line of an attempt that has ended."""
    report = end.report
    at = end.at or _stopped_at(view, now)
    before = old or Attempt(index=view.index, job=view.job, started_at=view.created_at)
    before = _run(before, view, now)
    attempt = Attempt(
        index=view.index,
        job=view.job,
        started_at=before.started_at,
        running_since=before.running_since,
        earlier_run_seconds=before.earlier_run_seconds,
        ended_at=at.replace(microsecond=0),
        reason=str(end.reason),
        message=end.message,
        resumed_from_step=report.resumed_from_step if report is not None else None,
    )
    return attempt.model_copy(update={"run_seconds": lasted(attempt, at)})


def is_open(status: PolicyTrainingStatus, index: int) -> bool:
    """Whether an attempt's end is still to be read from its Job.

    It is not once the status tells it, nor when the attempt is so old that it is not listed.
    """
    known = {a.index: a for a in status.attempts}
    if known and index < min(known):
        return False
    return index not in known or known[index].ended_at is None


def outdated(status: PolicyTrainingStatus, children: Iterable[Child]) -> tuple[Child, ...]:
    """Return what may be deleted, by a status that has been written.

    Everything of an attempt that still counts is in such a status: how often attempts have
    crashed, the number and the versions that the first Job carries. A Job that somebody resumes
    after its attempt's end would run beside the next one.
    """
    if status.failed_attempts is None or not status.attempts:
        return ()
    oldest_kept = status.attempts[-1].index - KEPT_JOBS + 1
    return tuple(
        c for c in children if not is_open(status, c.index) and (c.index < oldest_kept or c.running)
    )


def failed_attempts(status: PolicyTrainingStatus, attempts: Sequence[Attempt]) -> int:
    """Count all attempts that crashed, also those that the status does not list any more.

    Args:
        status: As it was written last.
        attempts: Those that it lists, brought up to date, and newer ones.
    """
    forgotten = (status.failed_attempts or 0) - crashes(status.attempts)
    return max(0, forgotten) + crashes(attempts)


def crashes(attempts: Sequence[Attempt]) -> int:
    """Count the attempts that failed by themselves; preemptions and suspensions do not count."""
    return sum(a.reason in FAILURES for a in attempts)


def next_start(attempts: Sequence[Attempt]) -> datetime | None:
    """Return when the next attempt may start; None means at once.

    A crash waits 5 s, 10 s, 20 s… up to 5 minutes. A preemption goes on at once, but one after
    another, each within a minute of its attempt's start, waits in the same way: a cluster that
    evicts every pod must not be flooded with Jobs. One that could not start its containers has held
    its nodes for long: others have them for five minutes.
    """
    if not attempts or (last := attempts[-1]).ended_at is None:
        return None
    if last.reason in (reasons.IMAGE_NOT_FOUND, reasons.CONTAINER_NOT_STARTED):
        return last.ended_at + _LAST_RETRY
    if last.reason == Outcome.TRAINER_FAILED:
        steps = crashes(attempts)
    elif last.reason == Outcome.PREEMPTED:
        steps = _short_preemptions(attempts) - 1
    else:
        steps = 0
    if steps <= 0:
        return None
    delay: timedelta = min(_LAST_RETRY, _FIRST_RETRY * (1 << min(steps - 1, 10)))
    return last.ended_at + delay


def _short_preemptions(attempts: Sequence[Attempt]) -> int:
    """Count the last attempts in a row that were preempted within a minute."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.ended_at is None or attempt.reason != Outcome.PREEMPTED:
            break
        if attempt.started_at is None or attempt.ended_at - attempt.started_at > _SHORT:
            break
        count += 1
    return count
