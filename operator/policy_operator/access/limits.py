"""How often somebody may make us ask the API server: a token bucket for each source, one for all.

Pure: the clock is passed in.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_SOURCES = 10_000  # addresses that are remembered; the longest silent one is forgotten first


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second after that."""

    burst: int
    per_second: float


class _Bucket:
    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until one may be taken; 0 means now."""
        self.add((now - self._at) * self._rate.per_second)
        self._at = now
        return max(0.0, (1 - self._left) / self._rate.per_second)

    def add(self, tokens: float) -> None:
        self._left = min(float(self._rate.burst), self._left + tokens)


class Limiter:
    """Says whether a source may ask now."""

    def __init__(self, clock: Callable[[], float], each: Rate, together: Rate) -> None:
        self._clock = clock
        self._each = each
        self._together = _Bucket(together, clock())
        self._sources: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, source: str) -> float:
        """Take one; return 0, or the seconds to wait when there is none."""
        now = self._clock()
        bucket = self._sources.setdefault(source, _Bucket(self._each, now))
        self._sources.move_to_end(source)
        if len(self._sources) > _SOURCES:
            self._sources.popitem(last=False)
        wait = max(bucket.wait(now), self._together.wait(now))
        if wait == 0:
            bucket.add(-1)
            self._together.add(-1)
        return wait

    def give_back(self, source: str) -> None:
        """Give back what was taken: it was well used."""
        self._together.add(1)
        if source in self._sources:
            self._sources[source].add(1)
