"""The queue between the event loop, which never waits for the log, and the thread that writes."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from policy_records.entries import DecisionEntry, Told

from policy_server.records.errors import LogFullError

DECISIONS = 10_000
"""That wait in memory: ten seconds of a thousand a second. Older ones go then."""
TOLD = 1_000
"""Outcomes and feedback that wait in memory; more are refused, since none may be lost."""
BATCH = 1_000
BATCH_SECONDS = 0.1


@dataclass
class Pending:
    """An outcome or a word, and who waits until it is kept."""

    entry: Told
    kept: Future[None] = field(default_factory=Future)


@dataclass
class Batch:
    """What is written at once."""

    decisions: list[DecisionEntry]
    told: list[Pending]

    def __bool__(self) -> bool:
        return bool(self.decisions or self.told)


class Intake:
    """Bounded. Decisions wait for company, what somebody waits for does not."""

    def __init__(self, dropped: Callable[[int], None]) -> None:
        """Take whom to tell how many decisions had no room."""
        self._dropped = dropped
        self._decisions: deque[DecisionEntry] = deque()
        self._told: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._decisions) + len(self._told)

    def put(self, entry: DecisionEntry) -> None:
        """Add a decision; of too many the oldest goes."""
        with self._changed:
            self._decisions.append(entry)
            over = len(self._decisions) - DECISIONS
            if over > 0:
                self._decisions.popleft()
            if len(self._decisions) in {1, BATCH}:  # begins a batch, or fills it
                self._changed.notify()
        if over > 0:
            self._dropped(1)

    def tell(self, entry: Told) -> Future[None]:
        """Add what somebody waits for; the future is done once it can't be lost any more.

        Raises:
            LogFullError: Too many wait, or the log has ended.
        """
        pending = Pending(entry)
        with self._changed:
            if self._closed or len(self._told) >= TOLD:
                raise LogFullError
            self._told.append(pending)
            self._changed.notify()
        return pending.kept

    def close(self) -> None:
        """Take nothing more that somebody waits for, and let `take` return at once."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def take(self, seconds: float) -> Batch:
        """Return the next batch; an empty one after so many seconds without any entry."""
        with self._changed:
            self._changed.wait_for(lambda: len(self) or self._closed, seconds)
            if self._decisions:
                self._changed.wait_for(self._full, BATCH_SECONDS)
            return Batch(_first(self._decisions, BATCH), _first(self._told, BATCH))

    def _full(self) -> bool:
        return bool(self._told) or len(self._decisions) >= BATCH or self._closed


def _first(queue: deque, count: int) -> list:  # type: ignore[type-arg]
    return [queue.popleft() for _ in range(min(count, len(queue)))]
