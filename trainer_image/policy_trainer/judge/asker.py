"""What both kinds of judges have in common: they take questions, and say what a reply has cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy_api.v1alpha1.judge import Criterion

from policy_trainer.judge.prompts import Question, Reply


@dataclass(frozen=True)
class Spent:
    """What judging has taken."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True)
class Answered:
    """A question, its reply, and what that took."""

    question: Question
    reply: Reply
    spent: Spent


class Asker(Protocol):
    """Asks a model; neither remembers nor bounds anything."""

    @property
    def identity(self) -> str:
        """What tells this judge's replies from another's: its model, where, with which seed."""
        ...

    def ask(
        self, questions: Sequence[Question], criteria: Sequence[Criterion]
    ) -> Iterator[Answered]:
        """Yield a reply to each question, in any order, as soon as it is there.

        Raises:
            RunError: the judge cannot be asked, or does not reply as it must.
        """
        ...
