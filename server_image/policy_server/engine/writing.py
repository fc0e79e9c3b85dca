"""Asks a policy that writes, off the event loop: answers begin and end while others are written.

One worker thread owns the model. Between two steps of it, each of which gives every answer a token
or more, whole answers go to their callers, those whose callers went away are left, and waiting ones
begin where there is room. A full queue refuses at once, see batching.py.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from policy_models.decision import Decision, Refusal, Request
from policy_models.writing import Answer, Writer

from policy_server.engine.asking import EngineFailedError, Outcome, OverloadedError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class _Asked:
    """One request and what was said to it so far."""

    def __init__(self, request: Request, *, streamed: bool) -> None:
        self.request = request
        self.streamed = streamed
        self.said: asyncio.Queue[str | Outcome | EngineFailedError] = asyncio.Queue()
        self.gone = False
        """Its caller went away, or has its outcome."""
        self.read = False
        """Some of it was given out."""
        self.answer: Answer | None = None
        """Set once it has begun."""


class Scribe:
    """Asks `policy`; at most `batch_limit` answers are written at once. Call `run` as a task."""

    def __init__(self, policy: Writer, *, queue_limit: int, batch_limit: int) -> None:
        self._policy = policy
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._waiting: deque[_Asked] = deque()
        self._writing: list[_Asked] = []
        self._wake = asyncio.Event()
        self._since: float | None = None  # when the policy was called, while it computes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def ask(self, request: Request) -> Outcome:
        """Return the policy's outcome; see Asker."""
        async for said in self._listen(_Asked(request, streamed=False)):
            if not isinstance(said, str):
                return said
        raise AssertionError("the outcome is the last that is said")

    def stream(self, request: Request) -> AsyncGenerator[str | Outcome]:
        """Yield an answer's text as it is written, then the outcome; see Asker."""
        return self._listen(_Asked(request, streamed=True))

    async def _listen(self, asked: _Asked) -> AsyncGenerator[str | Outcome]:
        if len(self._waiting) >= self._queue_limit:
            raise OverloadedError
        self._waiting.append(asked)
        self._wake.set()
        try:
            while True:
                said = await asked.said.get()
                if isinstance(said, EngineFailedError):
                    raise said
                yield said
                if not isinstance(said, str):
                    return
        finally:
            asked.gone = True
            if asked in self._waiting:  # it makes room for others at once
                self._waiting.remove(asked)

    @property
    def busy_seconds(self) -> float:
        """How long the policy has been computing this step; see Asker."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._leave()
                await self._begin(await self._entering())
                if self._writing:
                    await self._write()
        finally:
            self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the policy in its own thread."""
        self._since = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))
        finally:
            self._since = None

    async def _leave(self) -> None:
        gone = [asked for asked in self._writing if asked.gone]
        if gone:
            self._writing = [asked for asked in self._writing if not asked.gone]
            await self._call(self._policy.leave, [a.answer for a in gone if a.answer is not None])

    async def _entering(self) -> list[_Asked]:
        """Return the requests that begin now; wait for one where nothing is being written."""
        while not self._writing and not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        if self._writing and not self._policy.open:
            return []
        room = self._batch_limit - len(self._writing)
        return [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]

    async def _begin(self, entering: Sequence[_Asked]) -> None:
        if not entering:
            return
        try:
            begun = await self._call(self._policy.begin, [asked.request for asked in entering])
        except Exception as error:
            if len(entering) > 1:  # one bad request must not fail the others: begin each alone
                log.exception("%d requests failed and are asked one by one", len(entering))
                for asked in entering:
                    await self._begin([asked])
                return
            entering[0].said.put_nowait(_failure(error))
            return
        for asked, one in zip(entering, begun, strict=True):
            if isinstance(one, Decision | Refusal):
                asked.said.put_nowait(one)
            else:
                asked.answer = one
                self._writing.append(asked)

    async def _write(self) -> None:
        try:
            told = await self._call(self._written, self._writing)
        except Exception as error:
            failed, self._writing = self._writing, []
            await self._call(self._policy.leave, [a.answer for a in failed if a.answer is not None])
            if len(failed) > 1:  # one bad answer must not fail the others: ask each alone
                log.exception("%d answers failed and are asked one by one", len(failed))
            for asked in failed:
                # What was read cannot be taken back, and a drawn answer is another the next time.
                if len(failed) == 1 or asked.read:
                    asked.said.put_nowait(_failure(error))
                else:
                    await self._alone(asked)
            return
        going_on = []
        for asked, (piece, decision) in zip(self._writing, told, strict=True):
            if piece:
                asked.read = True
                asked.said.put_nowait(piece)
            if decision is None:
                going_on.append(asked)
            else:
                asked.said.put_nowait(decision)
        self._writing = going_on

    def _written(self, writing: Sequence[_Asked]) -> list[tuple[str, Decision | None]]:
        """Write some more; return each answer's new text, if it is streamed, and it, if whole."""
        self._policy.write()
        answers = [(asked.streamed, asked.answer) for asked in writing]
        return [
            (answer.take() if streamed else "", answer.decision)
            for streamed, answer in answers
            if answer is not None
        ]

    async def _alone(self, asked: _Asked) -> None:
        try:
            (outcome,) = await self._call(self._policy.decide, [asked.request])
        except Exception as error:  # noqa: BLE001 - its caller logs it
            asked.said.put_nowait(_failure(error))
        else:
            asked.said.put_nowait(outcome)


def _failure(error: Exception) -> EngineFailedError:
    failure = EngineFailedError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
