"""What is written to the log, as values that a queue and a spool can hold."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Owner:
    """Whose log: one PolicyDeployment, or what `policyctl serve` serves."""

    namespace: str
    deployment: str


class Label(StrEnum):
    """What a person's words come to."""

    POSITIVE = "Positive"
    NEGATIVE = "Negative"


@dataclass(frozen=True)
class DecisionEntry:
    """One request and what was decided; also a decision that failed."""

    id: uuid.UUID
    at: datetime
    """When the request came."""
    policy: str
    version: int
    """That answered."""
    role: str
    mode: str
    source: str
    """Whether the policy or its baseline answered."""
    valid: bool
    """Whether there was an answer that keeps its schema."""
    latency_ms: float
    failure: str | None = None
    """Why the policy's own answer was not given: a reason of the error metric."""
    run_id: str | None = None
    request_id: str | None = None
    caller: str | None = None
    state: Any = None
    prompt: Any = None
    """A text, or a list of messages."""
    candidates: Any = None
    context: Any = None
    """What the caller wants kept; no policy reads it."""
    ranking: Any = None
    action: str | None = None
    answer: str | None = None
    fields: Any = None
    """What a structured answer says."""
    propensity: float | None = None
    """The probability with which this version chose what it chose."""
    confidence: float | None = None
    auto_approved: bool | None = None
    unseen: Any = None
    tokens: int | None = None


@dataclass(frozen=True)
class OutcomeEntry:
    """What came of a decision, or a part of it; what is None is not known yet."""

    decision_id: uuid.UUID
    at: datetime
    reward: float | None = None
    success: bool | None = None
    followed: bool | None = None
    next_state: Any = None
    done: bool | None = None
    caller: str | None = None


@dataclass(frozen=True)
class FeedbackEntry:
    """What a person said of a decision, or of a run of several."""

    id: uuid.UUID
    at: datetime
    decision_id: uuid.UUID | None = None
    run_id: str | None = None
    text: str | None = None
    tags: tuple[str, ...] = ()
    label: Label | None = None
    corrected_action: str | None = None
    caller: str | None = None


Told = OutcomeEntry | FeedbackEntry
Entry = DecisionEntry | Told


@dataclass(frozen=True)
class News:
    """What an entry added that was not known, of the version that decided.

    The database says it, so that a message that arrives twice is counted once.
    """

    policy: str
    version: int
    role: str
    reward: float | None = None
    success: bool | None = None
    followed: bool | None = None
    label: Label | None = None
    overridden: bool = False


@dataclass
class Written:
    """What came of a batch."""

    news: list[News] = field(default_factory=list)
    foreign: set[uuid.UUID] = field(default_factory=set)
    """Decisions that were named but are of another policy's log."""
