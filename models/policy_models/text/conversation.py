"""What a text policy is asked and what it says, without saying how."""

from dataclasses import dataclass
from typing import Literal


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
    confidence: float
    """Mean probability that the model gave to the tokens of its answer."""


TOO_LONG = "PromptTooLong"


@dataclass(frozen=True)
class Refusal:
    """Why the model can't be asked this; the fault is the caller's."""

    code: str
    """One CamelCase word for programs."""
    message: str
    """One sentence that says what to change."""
