"""What comes of a request: a decision, a failure, or a refusal. Pure."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_api.v1alpha1.serving import Mode
from policy_models.decision import Option, Refusal, Request, Written

from policy_server.decisions.modes import Answer
from policy_server.metrics import REASON_ENGINE, REASON_TIMEOUT


@dataclass(frozen=True)
class Asked:
    """What was asked, and when it was answered: of every decision, made or failed."""

    decision_id: str
    request: Request
    role: str
    mode: Mode
    """Which was in force."""
    seconds: float
    """In the server, waiting included."""


@dataclass(frozen=True)
class Fault:
    """Why the policy has no answer; it is ours."""

    status: int  # HTTP, 5xx
    code: str
    message: str
    reason: str | None
    """As a metric's label; None: the version has not even been asked."""


@dataclass(frozen=True)
class Decision:
    """What was decided."""

    asked: Asked
    answer: Answer
    unseen: tuple[str, ...] = ()
    fields: Mapping[str, Any] | None = None
    """What a generated answer says; each entry of a list has an id of its own."""
    written: Written | None = None
    """How an answer was generated; None: it was not."""
    failed: str | None = None
    """Why the policy has no answer and its baseline answered; None: it has one."""

    @property
    def chosen(self) -> Option:
        """What is answered."""
        return self.answer.chosen

    @property
    def ranking(self) -> tuple[Option, ...]:
        """The best first; the chosen one need not be it where chance has a part."""
        return self.answer.ranking


@dataclass(frozen=True)
class Failure:
    """A decision that failed."""

    asked: Asked
    fault: Fault


Outcome = Decision | Failure | Refusal

OVERLOADED = Fault(
    503,
    "Overloaded",
    "too many decisions are waiting: try again after the time that Retry-After says",
    None,
)
ENGINE_FAILED = Fault(
    500, "EngineFailed", "the model failed: the server's log says why", REASON_ENGINE
)


def timed_out(limit: int | None) -> Fault:
    """Return the fault of an answer that took longer than `limit` milliseconds."""
    message = f"the policy has not answered within {limit} ms, its timeoutMilliseconds: try again"
    return Fault(504, "Timeout", message, REASON_TIMEOUT)


def new_id() -> str:
    """Return an id for a decision."""
    return str(uuid.uuid4())
