"""What should become of a PolicyTraining: `decide(training, observed, now)`. Pure.

A training is a row of attempts, each a Job. It ends when an attempt completes (its exit criteria
judge it), when the input is bad, when memory is too small, when it has crashed too often, when its
time is over or its budget is used up. A preemption is no failure: the next attempt goes on from the
checkpoint. So does one whose budget is raised after it has ended by it.

Read `decide` from top to bottom: the first case that applies wins.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from policy_api import reasons, skew
from policy_api.contract.report import Outcome
from policy_api.keys import COND_RUNNING, COND_SUCCEEDED, COND_SUSPENDED
from policy_api.rules.conditions import get_condition
from policy_api.v1alpha1.training_status import Attempt, PolicyTrainingStatus

from policy_operator.machinery.events import Event, EventType
from policy_operator.training import retention
from policy_operator.training.attempts import (
    FAILURES,
    KEPT_ATTEMPTS,
    ended_attempt,
    failed_attempts,
    merge_attempts,
    outdated,
)
from policy_operator.training.budget import Spending, price, spending, with_resources
from policy_operator.training.completion import completed
from policy_operator.training.deadline import Clock, clock, keep_deadline
from policy_operator.training.dependencies import noted, settled
from policy_operator.training.next_attempt import all_ready, start
from policy_operator.training.patience import judged, look_again, say_what_is_stuck
from policy_operator.training.refusals import cannot_stop, refused, without_changes
from policy_operator.training.status import (
    ASK_AGAIN,
    TrainingState,
    finished,
    may_go_on,
    sooner,
    take_progress,
    take_report,
)
from policy_operator.training.types import (
    Action,
    AttemptView,
    Child,
    CompleteAttempt,
    Decision,
    DeleteChild,
    DeleteTraining,
    End,
    Observed,
    StopJob,
    Training,
)

_WARNINGS = {
    reasons.UNSCHEDULABLE,
    reasons.IMAGE_NOT_FOUND,
    reasons.CONTAINER_NOT_STARTED,
    reasons.REFUSED,
    reasons.RETRYING,
    reasons.UNKNOWN_FIELD,
    reasons.POD_STUCK,
}


def _event(old: str | None, status: PolicyTrainingStatus) -> tuple[Event, ...]:
    """Tell a change of state, once."""
    new = status.state or ""
    if new in ("", old, reasons.STARTING, reasons.ENDING):
        return ()  # the start of an attempt has its own event, and so has what follows its end
    failed = get_condition(status.conditions, COND_SUCCEEDED)
    bad = new in _WARNINGS or (failed is not None and failed.status == "False")
    kind: EventType = "Warning" if bad else "Normal"
    running = get_condition(status.conditions, COND_RUNNING)
    return (Event(kind, new, running.message if running is not None else ""),)


def decide(training: Training, observed: Observed, now: datetime) -> Decision:
    """Return what should be, from what is.

    Args:
        training: The object, with the status that was written last.
        observed: Its Jobs, pods, base and version.
        now: The time, UTC.
    """
    if training.meta.deletion_timestamp is not None:
        return Decision(status=training.status)
    decision = _judge(training, observed, now)
    return without_changes(decision, observed.unchangeable, now)


def _judge(training: Training, observed: Observed, now: datetime) -> Decision:
    observed = judged(observed, training.status.attempts, now)
    if (held := _held(training, observed, now)) is not None:
        return held
    observed = replace(observed, dependencies=settled(observed.dependencies, now))
    attempts = merge_attempts(training.status.attempts, observed.attempts, now)
    attempts = with_resources(training.status.attempts, attempts, observed.attempts)
    spent = spending(training, attempts, now)
    started_at = training.status.started_at or (attempts[0].started_at if attempts else None)
    view = observed.attempts[-1] if observed.attempts else None
    time = clock(training, started_at, view if view and view.end is None else None, now)
    # Once the status has an attempt's end, whatever its Job still runs is stopped.
    stops = tuple(StopJob(job, reasons.ENDING) for job in observed.left_running)
    if finished(training.status) and not _goes_on(training, spent, now):
        rest = _after_the_end(training, observed, now)
        return replace(rest, actions=(*stops, *rest.actions))

    state = TrainingState(training, now, training.status).update(
        finished_at=None,
        observed_generation=training.meta.generation,
        attempts=list(attempts[-KEPT_ATTEMPTS:]),
        dependencies=noted(
            training.status.dependencies, observed.dependencies, taken=bool(attempts)
        ),
        trainer_image=_image(training.status, attempts, observed),
        started_at=started_at,
        suspended_since=time.suspended_since,
        suspended_seconds=time.suspended_seconds or None,
    )
    if attempts:
        state = _remember(state, attempts, observed)
    decision = _decide(state, attempts, observed, spent, time)
    status = say_what_is_stuck(replace(state, status=decision.status), observed.lingering).status
    if attempts:
        told = price(training.spec, spent, status.progress)
        status = status.model_copy(update={"cost": told})
    news = _event(training.status.state, status)
    old = outdated(training.status, observed.children)
    again = now if outdated(status, observed.children) != old else None
    told_ended = {a.index for a in status.attempts if a.ended_at is not None}
    to_stop = any(v.job_runs and v.index in told_ended for v in observed.attempts)
    due = look_again(observed, attempts, now) if not finished(status) else None
    return Decision(
        status=status,
        actions=(*stops, *decision.actions, *_clean(old)),
        next_check_at=sooner(decision.next_check_at, due, again, now if to_stop else None),
        events=(*decision.events, *news),
    )


def _held(training: Training, observed: Observed, now: datetime) -> Decision | None:
    """Leave the verdict to a newer operator, if the spec says what this one does not know.

    Nothing else of the status changes, so that whoever judges finds the attempt as it ended.
    """
    view = observed.attempts[-1] if observed.attempts else None
    ended = view.end if view is not None else None
    if training.unknown is None or ended is None or ended.reason != Outcome.COMPLETED:
        return None
    message = f"the training has ended and is not judged: {skew.waits(training.unknown)}"
    state = TrainingState(training, now, training.status)
    status = state.running(reasons.UNKNOWN_FIELD, message).status
    return Decision(status, events=_event(training.status.state, status))


def _image(
    status: PolicyTrainingStatus, attempts: tuple[Attempt, ...], observed: Observed
) -> str | None:
    """Return the image that has trained; one that never ran binds nobody."""
    if status.trainer_image is not None or not any(a.running_since for a in attempts):
        return status.trainer_image
    return observed.trainer_image


def _remember(
    state: TrainingState, attempts: tuple[Attempt, ...], observed: Observed
) -> TrainingState:
    """Take into the status what else is known by Jobs alone, which are deleted in time."""
    status = state.training.status
    return state.update(
        failed_attempts=failed_attempts(status, attempts),
        reserved_version=status.reserved_version or observed.reserved,
    )


def _clean(children: Iterable[Child]) -> tuple[DeleteChild, ...]:
    return tuple(DeleteChild(c.kind, c.name, c.uid) for c in children)


def _goes_on(training: Training, spent: Spending, now: datetime) -> bool:
    """Whether a training that a limit has stopped may go on: the limit was raised."""
    status = training.status
    if not may_go_on(status):
        return False
    if status.state == reasons.BUDGET_EXCEEDED:
        return spent.exceeded is None
    # As if nobody suspended it: that its clock stands still has ended no limit.
    wanted = replace(training, spec=training.spec.model_copy(update={"suspend": False}))
    return not clock(wanted, status.started_at, None, now).over(now, None)


def _decide(  # noqa: C901, PLR0911 - the list of cases is the product; one place to read it
    state: TrainingState,
    attempts: tuple[Attempt, ...],
    observed: Observed,
    spent: Spending,
    time: Clock,
) -> Decision:
    training, now = state.training, state.now
    view = observed.attempts[-1] if observed.attempts else None
    last = attempts[-1] if attempts else None
    for ended in observed.attempts:
        if ended.end is not None and ended.end.report is not None:
            state = take_report(state, ended.end.report)

    # Before all else: an attempt that was resumed may have ended before this was written.
    resumed = not training.spec.suspend
    if resumed and get_condition(state.status.conditions, COND_SUSPENDED) is not None:
        state = state.set(COND_SUSPENDED, "False", reasons.RESUMED, "suspend is false")

    # 1. An attempt has completed: its exit criteria judge the training.
    if view is not None and view.end is not None and view.end.reason == Outcome.COMPLETED:
        return completed(state, view, view.end, observed)

    # 2. It can't get better by trying again.
    if last is not None and last.reason in (
        Outcome.CONFIG_INVALID,
        Outcome.DATA_INVALID,
        Outcome.OUT_OF_MEMORY,
    ):
        return Decision(state.ended(False, last.reason, last.message or "").status)
    if observed.refusal is not None and observed.refusal.final:
        return _never_taken(state, attempts, view, observed.refusal.message)
    retries = training.spec.max_retries
    failures = state.status.failed_attempts or 0
    if last is not None and last.reason in FAILURES and failures > retries:
        message = f"{last.message} (attempt {last.index}; maxRetries {retries} are used up)"
        return Decision(state.ended(False, last.reason, message).status)

    # 3. Its time is over.
    limit = training.spec.active_deadline_seconds
    deadline = time.due
    active = view if view is not None and view.end is None else None
    over = time.over(now, last.reason if last is not None else None)
    should_stop = over or spent.exceeded is not None or training.spec.suspend
    if should_stop and active is not None and observed.unchangeable is not None:
        return cannot_stop(state, active, observed.unchangeable)
    if over:
        message = (
            f"not finished {limit} s after its first start, suspensions not counted "
            "(activeDeadlineSeconds); raise it, and the training goes on from its checkpoint"
        )
        if active is not None:
            ending = End(reasons.DEADLINE_EXCEEDED, message, now)
            attempts = (*attempts[:-1], ended_attempt(active, ending, attempts[-1], now))
            state = state.update(attempts=list(attempts[-KEPT_ATTEMPTS:]))
        end = state.ended(False, reasons.DEADLINE_EXCEEDED, message)
        return Decision(end.status, actions=_stop(active, reasons.DEADLINE_EXCEEDED))

    # 4. Its budget is used up, or a person wants it to pause.
    if spent.exceeded is not None or training.spec.suspend:
        return _pause(state, active, observed, deadline, spent.exceeded)

    # 5. An attempt is under way.
    if active is not None:
        return _follow(state, active, observed, deadline, spent.look_again)

    # 6. The next attempt: when its base is there and the last one's pods are gone.
    return start(state, attempts, observed, deadline, spent.left_seconds)


def _never_taken(
    state: TrainingState, attempts: tuple[Attempt, ...], view: AttemptView | None, message: str
) -> Decision:
    """Fail for good: the API server calls a child invalid. What runs already is stopped next."""
    if view is not None and view.end is None:
        over = ended_attempt(
            view, End(Outcome.CONFIG_INVALID, message, state.now), attempts[-1], state.now
        )
        state = state.update(attempts=[*attempts[:-1], over][-KEPT_ATTEMPTS:])
    return Decision(state.ended(False, str(Outcome.CONFIG_INVALID), message).status)


def _stop(active: AttemptView | None, why: str) -> tuple[Action, ...]:
    """Return what stops the attempt that is under way, unless it is told so already.

    Whoever resumes a Job that we have suspended (Kueue does, while its Workload is admitted) would
    do so again and again.
    """
    if active is None or active.stopping:
        return ()
    if active.resumed:
        return (DeleteChild("Job", active.job, active.uid),)
    return (StopJob(active.job, why),)


def _pause(
    state: TrainingState,
    active: AttemptView | None,
    observed: Observed,
    deadline: datetime | None,
    exceeded: str | None,
) -> Decision:
    """Let the trainer save a checkpoint and stop; then end by the budget, or wait for a person."""
    if active is not None or observed.pods_left:
        message = "the trainer saves a checkpoint and stops"
        if exceeded is not None:
            message = f"{exceeded}: {message}"
        state = state.running(reasons.SUSPENDING, message, really=active is not None)
        why = reasons.BUDGET_EXCEEDED if exceeded is not None else reasons.SUSPENDED
        return Decision(state.status, actions=_stop(active, why), next_check_at=deadline)
    if exceeded is not None:
        message = f"{exceeded}; raise it, and the training goes on from its checkpoint"
        return Decision(state.ended(False, reasons.BUDGET_EXCEEDED, message).status)
    state = state.running(reasons.SUSPENDED, "suspend is true")
    state = state.set(COND_SUSPENDED, "True", reasons.SUSPENDED, "suspend is true")
    return Decision(state.status, next_check_at=deadline)


def _follow(
    state: TrainingState,
    active: AttemptView,
    observed: Observed,
    deadline: datetime | None,
    money: datetime | None,
) -> Decision:
    state, report_at = take_progress(state, observed)
    due = sooner(deadline, money, report_at)
    if active.suspended:
        # Nobody tells us of a change of what holds it.
        state = state.running(active.reason, active.message, really=active.running)
        due = sooner(due, state.now + ASK_AGAIN)
    elif active.stopping:  # suspend was taken back before the pods had stopped
        state = state.running(reasons.SUSPENDING, "it stops, then goes on", really=True)
    else:
        state = state.running(active.reason, active.message, really=active.running)
    actions: tuple[Action, ...] = ()
    if observed.refusal is not None:  # of the ConfigMap or the Service; the Job was taken
        state, again = refused(state, observed.refusal.message)
        due = sooner(due, again)
    elif not active.complete and state.training.unknown is not None:
        # Its pods wait for the ConfigMap: one without the field would let them train without it.
        state = state.running(reasons.UNKNOWN_FIELD, skew.waits(state.training.unknown))
    elif not active.complete and (ready := all_ready(observed)) is not None:
        actions = (CompleteAttempt(active.index, ready, observed.trainer_image),)
    actions = (*actions, *keep_deadline(active, deadline))
    return Decision(state.status, actions=actions, next_check_at=due)


def _after_the_end(training: Training, observed: Observed, now: datetime) -> Decision:
    """Keep the verdict; end what still runs; delete the object when its time has come."""
    state = training.status.state or reasons.SUSPENDED
    active = [v for v in observed.attempts if v.end is None]
    actions: list[Action] = [action for v in active for action in _stop(v, state)]
    actions += _clean(outdated(training.status, observed.children))
    busy = bool(active) or observed.pods_left
    kept = retention.after_the_end(
        training, observed.removal, busy=busy, others=observed.removals, now=now
    )
    again = kept.look_again
    if observed.refusal is None:
        actions += kept.actions
    else:  # of the Job that removes checkpoints
        again = now + ASK_AGAIN
    ttl, end = training.spec.ttl_seconds_after_finished, training.status.finished_at
    if ttl is not None and end is not None and not may_go_on(training.status):
        due = end + timedelta(seconds=ttl)
        if now >= due:
            return Decision(kept.status, actions=(*actions, DeleteTraining()), events=kept.events)
        again = sooner(again, due)
    return Decision(kept.status, tuple(actions), again, kept.events)
