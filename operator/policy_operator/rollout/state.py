"""The status in the making: each rule takes a RolloutState and returns the next one."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from policy_api.base import Condition
from policy_api.v1alpha1.deployment import (
    AlertStatus,
    CandidateStatus,
    GivenUpStatus,
    HandledAnnotations,
    PolicyDeploymentStatus,
    PreviousStatus,
    RejectedVersion,
    RetiringStatus,
    StableStatus,
    Transition,
)

from policy_operator.machinery.events import Event
from policy_operator.rollout.types import DRAIN_SECONDS, RollbackRecord

HISTORY = 20  # transitions that are kept
REJECTED = 50  # rejections that are kept; the PolicyVersion keeps its own for good


@dataclass(frozen=True)
class Verdict:
    """One condition to be: its status, reason and sentence."""

    status: bool
    reason: str
    message: str = ""


@dataclass(frozen=True)
class RolloutState:
    """What the status will say, and what follows from how it came about."""

    now: datetime
    stable: StableStatus | None = None
    candidate: CandidateStatus | None = None
    previous: PreviousStatus | None = None
    retiring: tuple[RetiringStatus, ...] = ()
    given_up: GivenUpStatus | None = None
    handled: HandledAnnotations = field(default_factory=HandledAnnotations)
    alerts: tuple[AlertStatus, ...] = ()
    rejected: tuple[RejectedVersion, ...] = ()
    history: tuple[Transition, ...] = ()
    progressing: Verdict | None = None
    degraded: Verdict | None = None
    rejections: dict[int, Condition] = field(default_factory=dict)
    """Condition Rejected to write, by version."""
    retried: int | None = None
    rollback: RollbackRecord | None = None
    """Why weights go back in this very decision."""
    urgent: bool = False
    """Traffic leaves a version in this decision: the route is written before anything else."""
    events: tuple[Event, ...] = ()
    checks: tuple[datetime, ...] = ()
    """When time alone may change the decision."""

    @classmethod
    def of(cls, status: PolicyDeploymentStatus, now: datetime) -> "RolloutState":
        """Start from what the status says."""
        return cls(
            now=now,
            stable=status.stable,
            candidate=status.candidate,
            previous=status.previous,
            retiring=tuple(status.retiring),
            given_up=status.given_up,
            handled=status.handled or HandledAnnotations(),
            alerts=tuple(status.alerts),
            rejected=tuple(status.rejected),
            history=tuple(status.history),
        )

    @property
    def second(self) -> datetime:
        """The time as a status stores it: whole seconds, never in the future."""
        return self.now.replace(microsecond=0)

    def note(
        self, version: int, event: str, message: str, *, warning: bool = False
    ) -> "RolloutState":
        """Add a line to the history, and an Event that says the same."""
        line = Transition(at=self.second, version=version, event=event, message=message)
        told = Event("Warning" if warning else "Normal", event, message)
        return replace(
            self,
            history=(*self.history, line)[-HISTORY:],
            events=(*self.events, told),
        )

    def say(self, status: bool, reason: str, message: str = "") -> "RolloutState":
        """Set the verdict on progress."""
        return replace(self, progressing=Verdict(status, reason, message))

    def check_at(self, when: datetime) -> "RolloutState":
        """Look again at this time."""
        return replace(self, checks=(*self.checks, when))

    def running(self) -> set[int]:
        """Return the versions whose servers must be there in full."""
        roles = (self.stable, self.candidate, self.previous)
        return {role.version for role in roles if role is not None}

    def retire(self, version: int) -> "RolloutState":
        """Take a version without traffic out of service, once its last answers are given."""
        until = self.second + timedelta(seconds=DRAIN_SECONDS)
        others = tuple(r for r in self.retiring if r.version != version)
        return replace(self, retiring=(*others, RetiringStatus(version=version, until=until)))

    def return_traffic(self) -> "RolloutState":
        """Give all traffic to stable and drop the candidate."""
        if self.candidate is None:
            return self
        state = self.retire(self.candidate.version)
        if state.stable is not None:
            state = replace(state, stable=state.stable.model_copy(update={"weight": 100}))
        return replace(state, candidate=None, urgent=True)

    def reject(self, version: int, reason: str, at: datetime) -> "RolloutState":
        """Record that a version was rolled back here."""
        others = tuple(r for r in self.rejected if r.version != version)
        entry = RejectedVersion(version=version, reason=reason, at=at)
        return replace(self, rejected=(*others, entry)[-REJECTED:])
