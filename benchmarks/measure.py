"""Latencies of trainings. One ends when a watch of the benchmark's own shows the result."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles

from integration.arrivals import Arrivals
from integration.client import Api, until
from integration.objects import training

CREATORS = 16


@dataclass(frozen=True)
class Latencies:
    """Seconds, sorted."""

    seconds: tuple[float, ...]

    def percentile(self, number: int) -> float:
        """Return a percentile in seconds."""
        return quantiles(self.seconds, n=100, method="inclusive")[number - 1]

    def told(self, *numbers: int) -> str:
        """Return percentiles in milliseconds, with their words."""
        return ", ".join(f"p{n} {self.percentile(n) * 1000:.0f} ms" for n in numbers)


def paced(api: Api, namespace: str, arrivals: Arrivals, *, count: int, every: float) -> Latencies:
    """Create trainings one after the other; return how long each took to its Job."""
    began: dict[str, float] = {}
    pause = threading.Event()
    for number in range(count):
        name = f"paced-{number:03}"
        began[name] = time.perf_counter()
        api.create(training(namespace, name))
        pause.wait(max(0.0, began[name] + every - time.perf_counter()))
    until("all Jobs", lambda: len(arrivals.of(namespace)) >= count, seconds=120)
    seen = arrivals.of(namespace)
    return Latencies(tuple(sorted(seen[f"{name}-0"] - at for name, at in began.items())))


def burst(api: Api, namespace: str, arrivals: Arrivals, *, count: int) -> float:
    """Create trainings as fast as the API server takes them; return seconds to the last Job."""
    names = [f"burst-{number:03}" for number in range(count)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(lambda name: api.create(training(namespace, name)), names))
    until("all Jobs", lambda: len(arrivals.of(namespace)) >= count, seconds=300)
    return max(arrivals.of(namespace).values()) - began
