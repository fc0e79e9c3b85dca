"""An event loop whose clock jumps: an hour of timers passes in a moment, in their order."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("everything waits and no timer is set: this would hang")
        self.elapsed += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """Time passes only while everything waits for a timer."""

    def __init__(self) -> None:
        self.ticks = _Selector()
        super().__init__(self.ticks)

    def time(self) -> float:
        return self.ticks.elapsed

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time())


def play(story: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    """Run a story to its end in jumping time."""
    loop = Loop()
    try:
        loop.run_until_complete(story(loop))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
