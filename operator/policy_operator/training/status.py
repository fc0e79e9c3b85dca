"""A training's status while a decision works it out. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.contract.report import Outcome, TrainingReport
from policy_api.keys import COND_RUNNING, COND_SUCCEEDED
from policy_api.rules.conditions import Status, get_condition, set_condition
from policy_api.rules.criteria import kept_metrics
from policy_api.v1alpha1.training_status import PolicyTrainingStatus, Progress

from policy_operator.training.types import Observed, Training

# Ends that are taken back when what they are named after is raised.
LIMITS = (reasons.BUDGET_EXCEEDED, reasons.DEADLINE_EXCEEDED)
# The API server and its watchers are spared: a trainer may report as often as it likes.
PROGRESS_EVERY = timedelta(seconds=5)


ASK_AGAIN = timedelta(seconds=30)  # what nobody tells us of: Kueue's word, a Job's refusal


def sooner(*times: datetime | None) -> datetime | None:
    """Return the first of the times that there are."""
    return min((t for t in times if t is not None), default=None)


@dataclass(frozen=True)
class TrainingState:
    """The status while it is worked out, with what is needed to change it."""

    training: Training
    now: datetime
    status: PolicyTrainingStatus

    def set(self, kind: str, status: Status, reason: str, message: str) -> "TrainingState":
        """Set a condition."""
        conditions = set_condition(
            self.status.conditions,
            kind,
            status,
            reason,
            message,
            now=self.now,
            generation=self.training.meta.generation,
        )
        return self.update(conditions=list(conditions))

    def update(self, **fields: object) -> "TrainingState":
        """Replace fields of the status."""
        return replace(self, status=self.status.model_copy(update=fields))

    def running(self, reason: str, message: str, *, really: bool = False) -> "TrainingState":
        """Say how the run is; whether it succeeds is still unknown."""
        state = self.set(COND_RUNNING, "True" if really else "False", reason, message)
        state = state.set(COND_SUCCEEDED, "Unknown", reason, message)
        return state.update(state=reason)

    def ended(self, success: bool, reason: str, message: str) -> "TrainingState":
        """Say how it all ended."""
        state = self.set(COND_RUNNING, "False", reason, message)
        state = state.set(COND_SUCCEEDED, "True" if success else "False", reason, message)
        at = state.status.finished_at or self.now.replace(microsecond=0)
        return state.update(state=reason, finished_at=at)


def blocked(training: Training, why: str, now: datetime) -> PolicyTrainingStatus:
    """Return the status of a training that can't be looked after: we may not read what it needs."""
    if finished(training.status):
        return training.status
    state = TrainingState(training, now, training.status)
    return state.running(reasons.PERMISSION_MISSING, why).status


def finished(status: PolicyTrainingStatus) -> bool:
    """Whether the training has succeeded or failed for good."""
    found = get_condition(status.conditions, COND_SUCCEEDED)
    return found is not None and found.status != "Unknown"


def may_go_on(status: PolicyTrainingStatus) -> bool:
    """Whether the training has ended by a limit: once that is raised it goes on."""
    found = get_condition(status.conditions, COND_SUCCEEDED)
    return found is not None and found.status == "False" and found.reason in LIMITS


def take_progress(
    state: TrainingState, observed: Observed
) -> tuple[TrainingState, datetime | None]:
    """Write the newest report into the status, at most once in 5 s; say when to look again.

    The status has whole seconds: a second report of the same second is told by its content.
    """
    news, old = observed.progress, state.status.progress
    written = old.updated_at if old is not None else None
    if news is None:
        return state, None
    at = news.at.replace(microsecond=0)
    progress = Progress(
        percent=news.percent if news.percent is not None else (old.percent if old else None),
        step=news.step if news.step is not None else (old.step if old else None),
        max_steps=news.max_steps
        if news.max_steps is not None
        else (old.max_steps if old else None),
        remaining_seconds=news.remaining_seconds,
        updated_at=at,
    )
    new = state.update(progress=progress, metrics=list(news.metrics or state.status.metrics))
    if written is not None and (at < written or new.status == state.status):
        return state, None
    if written is not None and state.now - written < PROGRESS_EVERY:
        return state, written + PROGRESS_EVERY
    return new, None


def take_report(state: TrainingState, report: TrainingReport) -> TrainingState:
    """Write an ended attempt's report into the status."""
    old = state.status.progress
    step = report.step if report.step is not None else (old.step if old else None)
    most = report.max_steps if report.max_steps is not None else (old.max_steps if old else None)
    percent = old.percent if old else None
    if report.outcome is Outcome.COMPLETED:
        percent = 100
    elif step is not None and most:
        percent = min(100, 100 * step // most)
    progress = Progress(
        percent=percent,
        step=step,
        max_steps=most,
        remaining_seconds=0 if report.outcome is Outcome.COMPLETED else None,
        updated_at=old.updated_at if old else None,
    )
    metrics = kept_metrics(state.training.spec.exit_criteria, report.metrics)
    return state.update(progress=progress, metrics=list(metrics or state.status.metrics))
