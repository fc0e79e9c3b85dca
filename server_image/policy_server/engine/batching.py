"""Puts questions that arrive together into one call of the engine, off the event loop.

One worker thread owns the model. While it works, questions wait in a bounded queue; when it is
free, the first one waits `wait` seconds for company. A full queue refuses at once: a caller that is
told to come back is better off than one that times out.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from policy_models.text.conversation import Answer, Question, Refusal

from policy_server.engine.types import Engine

log = logging.getLogger(__name__)

Outcome = Answer | Refusal
_Waiting = tuple[Question, asyncio.Future[Outcome]]


class OverloadedError(Exception):
    """The queue is full."""


class EngineFailedError(Exception):
    """The model raised; the cause is chained."""


class Batcher:
    """Asks `engine` in batches of at most `batch_limit`. Call `run` as a task, then `ask`."""

    def __init__(
        self, engine: Engine, *, queue_limit: int, batch_limit: int, wait_seconds: float
    ) -> None:
        self._engine = engine
        self._batch_limit = batch_limit
        self._wait_seconds = wait_seconds
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(queue_limit)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def ask(self, question: Question) -> Outcome:
        """Return the engine's outcome.

        Raises:
            OverloadedError: The queue is full.
            EngineFailedError: The model raised on this question.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((question, future))
        except asyncio.QueueFull:
            raise OverloadedError from None
        return await future

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._serve(await self._gather())
        finally:
            self._thread.shutdown(wait=False)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while len(batch) < self._batch_limit:
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return batch

    async def _serve(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        questions = [question for question, _ in batch]
        try:
            outcomes = await loop.run_in_executor(self._thread, self._engine.answer, questions)
        except Exception as error:
            if len(batch) > 1:  # one bad question must not fail the others: ask each alone
                log.exception("a batch of %d failed and is asked one by one", len(batch))
                for one in batch:
                    await self._serve([one])
                return
            failure = EngineFailedError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            _, future = batch[0]
            if not future.done():
                future.set_exception(failure)
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():  # done: the caller went away
                future.set_result(outcome)
