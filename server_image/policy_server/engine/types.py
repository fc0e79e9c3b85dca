"""What the server asks of a model, without saying how."""

from collections.abc import Sequence
from typing import Protocol

from policy_models.text.conversation import Answer, Question, Refusal


class Engine(Protocol):
    """A loaded model. It is called from one thread at a time, never from the event loop."""

    def answer(self, questions: Sequence[Question]) -> list[Answer | Refusal]:
        """Return one outcome for each question, in order. Raises what the model raises."""
        ...
