"""What every kind of policy is asked, and what it says. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Question:
    """What a text policy is asked: a prompt, or a conversation whose last turn is the user's."""

    prompt: str | None = None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Request:
    """What is to be decided: a state, a question, or which of some candidates."""

    state: Mapping[str, Any] | None = None
    """What is known, by feature; for policies of tables."""
    question: Question | None = None
    """What is asked; for text."""
    candidates: tuple[str, ...] | None = None
    """Choose among these: actions, plans or answers. None: among all that the policy knows."""
    explain: bool = False
    """Whether options come with reasons."""


@dataclass(frozen=True)
class Reason:
    """Why an option stands where it stands."""

    text: str
    """One sentence or less, for people."""
    feature: str | None = None
    value: Any = None
    """The feature's value in the request."""
    effect: float | None = None
    """What the feature adds to the option's score, in the score's unit."""


@dataclass(frozen=True)
class Option:
    """One of what might be done."""

    action: str
    """An action, a class, a plan, or an answer's text."""
    score: float
    """What the ranking is by: a Q, log-odds, a reward; its unit is the kind's own."""
    probability: float | None = None
    """With which the policy takes it, of all that it might: the propensity. None: not known."""
    confidence: float | None = None
    """How likely it is right, from 0 to 1: what that means is the kind's own."""
    reasons: tuple[Reason, ...] = ()
    tokens: int | None = None
    """Length of an answer that was generated."""

    def taken(self, probability: float | None) -> "Option":
        """Return it with the probability that it is taken; dataclasses.replace takes far longer."""
        return Option(
            self.action, self.score, probability, self.confidence, self.reasons, self.tokens
        )


@dataclass(frozen=True)
class Written:
    """How an answer was generated."""

    prompt_tokens: int
    stopped: bool
    """The model ended it by itself; else it was cut off at its longest."""


@dataclass(frozen=True)
class Decision:
    """What a policy says of one request."""

    ranking: tuple[Option, ...]
    """The best first; at least one."""
    unseen: tuple[str, ...] = ()
    """Features with a category that the training data did not have."""
    fields: Mapping[str, Any] | None = None
    """What a generated answer says, by its policy's answer schema; None: it declares none."""
    written: Written | None = None
    """How its answer was generated; None: it was not."""


@dataclass(frozen=True)
class Refusal:
    """Why the policy can't be asked this; the fault is the caller's."""

    code: str
    """One CamelCase word for programs."""
    message: str
    """One sentence that says what to change."""


class Policy(Protocol):
    """A trained artifact that was opened. It is called from one thread at a time."""

    slow: bool
    """Whether an answer takes long: it is then computed beside the event loop, in batches."""

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Return one outcome for each request, in order. Raises what the model raises."""
        ...

    def example(self) -> Request:
        """Return a request that it answers."""
        ...

    def inputs(self) -> dict[str, Any]:
        """Return what a request must have, as JSON for people and programs."""
        ...


# Codes of refusals.
INVALID = "InvalidRequest"
TOO_LONG = "PromptTooLong"
UNKNOWN_CANDIDATE = "UnknownCandidate"


def greedy(options: Iterable[Option]) -> tuple[Option, ...]:
    """Return options by their score, the highest first; the policy takes that one and no other.

    Of equals the first, as argmax.
    """
    ordered = sorted(options, key=lambda option: -option.score)
    return tuple(option.taken(float(rank == 0)) for rank, option in enumerate(ordered))


def wants(what: str) -> Refusal:
    """Return the refusal of a request that lacks what this kind of policy is asked with."""
    return Refusal(INVALID, f"this policy is asked with {what}: send that instead")
