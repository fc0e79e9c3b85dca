"""Puts requests that arrive together into one call of a policy, off the event loop.

One worker thread owns the model. While it works, requests wait in a bounded queue; when it is free,
the first one waits `wait` seconds for company. A full queue refuses at once: a caller that is told
to come back is better off than one that times out.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor

from policy_models.decision import Policy, Request

from policy_server.engine.asking import EngineFailedError, Outcome, OverloadedError

log = logging.getLogger(__name__)

_Waiting = tuple[Request, asyncio.Future[Outcome]]


class Batcher:
    """Asks `policy` in batches of at most `batch_limit`. Call `run` as a task, then `ask`."""

    def __init__(
        self, policy: Policy, *, queue_limit: int, batch_limit: int, wait_seconds: float
    ) -> None:
        self._policy = policy
        self._batch_limit = batch_limit
        self._wait_seconds = wait_seconds
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(queue_limit)
        self._since: float | None = None  # when the policy was called, while it computes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def ask(self, request: Request) -> Outcome:
        """Return the policy's outcome; see Asker."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((request, future))
        except asyncio.QueueFull:
            raise OverloadedError from None
        return await future

    async def stream(self, request: Request) -> AsyncGenerator[str | Outcome]:
        """Yield the outcome; see Asker."""
        yield await self.ask(request)

    @property
    def busy_seconds(self) -> float:
        """How long the policy has been computing this batch; see Asker."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._serve(await self._gather())
        finally:
            self._thread.shutdown(wait=False)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._next()]
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while len(batch) < self._batch_limit:
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._next())
            except TimeoutError:
                break
        return batch

    async def _next(self) -> _Waiting:
        """Return the next request whose caller still waits."""
        while True:
            waiting = await self._queue.get()
            if not waiting[1].done():
                return waiting

    async def _serve(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        requests = [request for request, _ in batch]
        self._since = time.monotonic()
        try:
            outcomes = await loop.run_in_executor(self._thread, self._policy.decide, requests)
        except Exception as error:
            self._since = None
            if len(batch) > 1:  # one bad request must not fail the others: ask each alone
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
        self._since = None
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():  # done: the caller went away
                future.set_result(outcome)
