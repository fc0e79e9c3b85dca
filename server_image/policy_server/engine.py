"""What the server asks of a model, without saying how: torch is mentioned in text.py alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Question:
    """What is asked: a bare prompt, or a conversation whose last turn is the user's."""

    prompt: str | None = None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the model said."""

    text: str
    tokens: int
    confidence: float  # mean probability that the model gave to the tokens of its answer


@dataclass(frozen=True)
class Refusal:
    """Why the model can't be asked this; the fault is the caller's."""

    status: int  # HTTP, 4xx
    code: str
    message: str


class Engine(Protocol):
    """A loaded model. It is called from one thread at a time, never from the event loop."""

    def answer(self, questions: Sequence[Question]) -> list[Answer | Refusal]:
        """Return one outcome for each question, in order. Raises what the model raises."""
        ...
