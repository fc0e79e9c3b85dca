"""How a policy is asked from the event loop, and what may come of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from policy_models.decision import Decision, Policy, Refusal, Request

Outcome = Decision | Refusal


class OverloadedError(Exception):
    """The queue is full."""


class EngineFailedError(Exception):
    """The model raised; the cause is chained."""


class Asker(Protocol):
    """Asks one policy."""

    async def ask(self, request: Request) -> Outcome:
        """Return the policy's outcome.

        Raises:
            OverloadedError: The queue is full.
            EngineFailedError: The model raised on this request.
        """
        ...

    def stream(self, request: Request) -> AsyncGenerator[str | Outcome]:
        """Yield an answer's text as it is written, where it is, and last the outcome.

        The text is the beginning of the answer: what it lacks is in the outcome. Close it to say
        that nobody listens any more.

        Raises:
            OverloadedError, EngineFailedError: See ask; after some of the text, the latter.
        """
        ...

    async def run(self) -> None:
        """Serve until cancelled."""
        ...

    @property
    def busy_seconds(self) -> float:
        """How long the policy has been computing what it computes now; 0 when it does not."""
        ...


class Inline:
    """Asks a policy of tables at once: its arithmetic is shorter than a change of threads."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def ask(self, request: Request) -> Outcome:
        """Return the policy's outcome; see Asker."""
        try:
            return self._policy.decide([request])[0]
        except Exception as error:
            raise EngineFailedError(f"{type(error).__name__}: {error}") from error

    async def stream(self, request: Request) -> AsyncGenerator[str | Outcome]:
        """Yield the outcome; see Asker."""
        yield await self.ask(request)

    async def run(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()

    @property
    def busy_seconds(self) -> float:
        """Always 0: while it computes, nobody can ask."""
        return 0.0
