"""How a policy that writes is asked for answers that begin and end when they like. Pure."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from policy_models.decision import Decision, Policy, Refusal, Request


class Answer(Protocol):
    """One answer as it is written."""

    @property
    def decision(self) -> Decision | None:
        """The answer, once it is whole."""
        ...

    def take(self) -> str:
        """Return what was written since this was last called; whole characters alone."""
        ...


@runtime_checkable
class Writer(Policy, Protocol):
    """A policy that writes answers token by token. It is called from one thread at a time."""

    @property
    def open(self) -> bool:
        """Whether answers may begin now."""
        ...

    def begin(self, requests: Sequence[Request]) -> list[Answer | Decision | Refusal]:
        """Begin an answer to each request, or return what needs no writing.

        What is being written is left as it is when this raises.
        """
        ...

    def write(self) -> None:
        """Write some more of every answer that is not whole; after it raised, leave them all.

        `decide` does so by itself.
        """
        ...

    def leave(self, answers: Sequence[Answer]) -> None:
        """Write no more of these."""
        ...
