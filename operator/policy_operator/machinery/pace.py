"""Long work in short slices: the loop turns in between, for the Lease, the probes and alerts."""

import asyncio
import time
from collections.abc import Callable

from policy_operator.machinery import metrics

SLICE_SECONDS = 0.01
_LOOK_SECONDS = 0.05
_REMEMBER_SECONDS = 60.0


class Pace:
    """Counts the time since the loop last turned for this piece of work."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()

    async def rest(self) -> None:
        """Let the loop turn once the slice is used up."""
        if self._clock() - self._since >= SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock()


async def measure_stalls() -> None:
    """Measure how late the loop wakes us, until cancelled; the metric has the last minute's worst.

    A longer stall than that between two scrapes of Prometheus is seen at least once.
    """
    loop = asyncio.get_running_loop()
    worst: dict[int, float] = {}
    while True:
        due = loop.time() + _LOOK_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
        now = loop.time()
        slot = int(now // 1)
        worst[slot] = max(worst.get(slot, 0.0), now - due)
        for old in [s for s in worst if s < slot - _REMEMBER_SECONDS]:
            del worst[old]
        metrics.LOOP_STALL.set(max(worst.values()))
