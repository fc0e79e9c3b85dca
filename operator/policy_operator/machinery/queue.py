"""A deduplicating queue of object keys: the heart of level-triggered reconciling.

A key that is added many times is reconciled once; a key that is added while it is being
reconciled is reconciled once more; different keys run side by side; a failed one is tried again
after a growing delay. It holds no state worth keeping: after a restart every key is added again.

Keys that were never reconciled go before others, so that in a burst of new objects each gets its
first child before any gets its trimmings. A burst is over when no three new keys came within a
tenth of a second. None starves: a known key that has waited for a second gets every eighth turn
meanwhile, one that has waited for five gets every other.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from policy_operator.machinery import logs, metrics
from policy_operator.machinery.outage import Unreachable

log = logging.getLogger(__name__)

Reconcile = Callable[["Key"], Awaitable[datetime | None]]

# A failure is most often a conflict or a hiccup that is gone at once; a lasting one (no
# permission, a broken webhook of others) is not worth more than a call a minute.
_FIRST_DELAY = 0.1
_LAST_DELAY = 60.0
_GIVE_WAY = 1.0  # seconds that anything waits for more urgent work at most
_CROWD, _CROWD_SECONDS = 3, 0.1  # so many new keys within so long are a burst
# In a burst: by how long a known key has waited, of how many turns one is a known key's.
_KNOWN_TURNS = ((timedelta(seconds=5), 2), (timedelta(seconds=1), 8))


@dataclass(frozen=True, order=True)
class Key:
    """Names an object to reconcile."""

    kind: str
    namespace: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} {self.kind}"


acting: ContextVar[Key | None] = ContextVar("acting", default=None)
"""The key whose reconcile makes the calls of this task, and of the tasks that it starts."""


@contextmanager
def acts_for(key: Key) -> Iterator[None]:
    """Do what follows for a key, and name it in every line that is logged."""
    token = acting.set(key)
    try:
        with logs.about(str(key)):
            yield
    finally:
        acting.reset(token)


def utcnow() -> datetime:
    """Return the time, in UTC and with its zone."""
    return datetime.now(UTC)


def backoff(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row, at least one."""
    return float(min(_LAST_DELAY, _FIRST_DELAY * 2 ** min(failures - 1, 20)))


class Queue:
    """Keys to reconcile, now or at a time."""

    def __init__(self, now: Callable[[], datetime] = utcnow) -> None:
        self._now = now
        self._new: OrderedDict[Key, datetime] = OrderedDict()  # since when it waits
        self._known: OrderedDict[Key, datetime] = OrderedDict()
        self._seen: set[Key] = set()
        self._turn = 0
        self._running: set[Key] = set()
        self._again: set[Key] = set()  # added while running
        self._timers: dict[Key, tuple[datetime, asyncio.TimerHandle]] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._arrived: deque[datetime] = deque(maxlen=_CROWD)  # when the last new keys came
        self._calm_again = asyncio.Event()
        self._turn_lock = asyncio.Lock()
        self._urgent = 0
        self._calm = asyncio.Event()
        self._calm.set()

    def __len__(self) -> int:
        return len(self._new) + len(self._known)

    def add(self, key: Key) -> None:
        """Reconcile the key as soon as a worker is free."""
        if key in self._running:
            self._again.add(key)
            return
        lane = self._known if key in self._seen else self._new
        if key not in lane:
            lane[key] = self._now()
            metrics.QUEUE_DEPTH.set(len(self))
            self._wake.set()
            if lane is self._new:
                self._arrived.append(lane[key])
                if self.crowded:
                    asyncio.get_running_loop().call_later(_CROWD_SECONDS, self._thin_out)

    def forget(self, key: Key) -> None:
        """The object is gone: one of the same name would be a new one."""
        self._seen.discard(key)

    def _thin_out(self) -> None:
        if not self.crowded:
            self._wake.set()
            self._calm_again.set()

    def _lane(self) -> OrderedDict[Key, datetime]:
        """Return the lane whose turn it is; an empty one when nothing is to be done now."""
        if not self._known:
            return self._new
        return self._known if not self.crowded or self._known_is_due() else self._new

    def _take(self, lane: OrderedDict[Key, datetime]) -> Key:
        """Take the first key of the lane whose turn it is."""
        key, _ = lane.popitem(last=False)
        self._turn += 1
        self._seen.add(key)
        metrics.QUEUE_DEPTH.set(len(self))
        return key

    def _known_is_due(self) -> bool:
        waited = self._now() - next(iter(self._known.values()))
        every = next((turns for least, turns in _KNOWN_TURNS if waited >= least), 0)
        return every > 0 and self._turn % every == 0

    @property
    def crowded(self) -> bool:
        """Whether many new keys come: what can wait gives way to their first reconciles."""
        if self._new or len(self._arrived) < _CROWD:
            return bool(self._new)
        return (self._now() - self._arrived[0]).total_seconds() < _CROWD_SECONDS

    async def uncrowded(self) -> None:
        """Wait until few new keys come, a second at most."""
        if self.crowded:
            self._calm_again.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._calm_again.wait(), _GIVE_WAY)

    def add_at(self, key: Key, when: datetime) -> None:
        """Reconcile the key at a time; the earliest of several wins, a past one means now."""
        delay = (when - self._now()).total_seconds()
        if delay <= 0:
            self.add(key)
            return
        old = self._timers.get(key)
        if old is not None:
            if old[0] <= when:
                return
            old[1].cancel()
        handle = asyncio.get_running_loop().call_later(delay, self._due, key)
        self._timers[key] = (when, handle)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self, reconcile: Reconcile, workers: int) -> None:
        """Reconcile until cancelled; a reconcile that is under way is cancelled as well."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(reconcile))

    async def _work(self, reconcile: Reconcile) -> None:
        while True:
            while not self._lane():
                self._wake.clear()
                await self._wake.wait()
            # Reconciles that wait for nothing would be done in one breath, all of them: between
            # two keys the loop turns, whatever the number of workers.
            async with self._turn_lock:
                await asyncio.sleep(0)
            if self._urgent:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._calm.wait(), _GIVE_WAY)
            if lane := self._lane():
                await self._one(self._take(lane), reconcile)

    @contextmanager
    def give_way(self) -> Iterator[None]:
        """Start no key meanwhile: something urgent is done beside the queue."""
        self._urgent += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._calm.set()

    def retry_failed(self) -> None:
        """Try what failed again now: what was in the way of all of it is gone."""
        for key in self._failures:
            self.add(key)

    async def _one(self, key: Key, reconcile: Reconcile) -> None:
        # The reconcile computes the next check afresh, so an older timer is void.
        if (timer := self._timers.pop(key, None)) is not None:
            timer[1].cancel()
        self._running.add(key)
        started = time.perf_counter()
        next_check: datetime | None = None
        try:
            with acts_for(key):
                next_check = await reconcile(key)
        except Exception as error:
            # Whatever it was, the key stays and is tried again: that is level-triggering.
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            metrics.RECONCILE_ERRORS.labels(key.kind).inc()
            delay = backoff(failures)
            with logs.about(str(key)):
                expected = isinstance(error, OSError) or hasattr(error, "status")
                log.log(
                    logging.DEBUG if isinstance(error, Unreachable) else logging.WARNING,
                    "reconcile failed, again in %.1f s: %s",
                    delay,
                    error,
                    exc_info=not expected,
                )
            next_check = self._now() + timedelta(seconds=delay)
        else:
            self._failures.pop(key, None)
        finally:
            metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)
            self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                # A failed key waits for its delay: what woke it will still be there.
                if key not in self._failures:
                    self.add(key)
        if next_check is not None:
            self.add_at(key, next_check)
