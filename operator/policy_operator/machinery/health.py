"""Is the process alive: does its loop turn, and do events still arrive?

A watch can die without a word (a load balancer that forgets a connection). The Lease is the
heartbeat: its holder renews it every 2 s, we read it directly while we compete for it, and we
watch it like everything else. When direct reads succeed for a minute while no watch delivers
anything, the watches are dead. When the API server is away, nothing succeeds, and a restart would
not help: that time does not count.
"""

import time
from collections.abc import Callable

from policy_operator.machinery import metrics

_SILENCE = 60.0  # seconds of answered calls without any event
_STEP = 5.0  # a gap between two answered calls counts at most this much


def place(kind: str, namespace: str | None) -> str:
    """Name what can't be read: a kind, or a kind in one namespace."""
    return kind if namespace is None else f"{kind} in {namespace}"


class Health:
    """What the probes ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_event = clock()
        self._last_contact = clock()
        self._unheard = 0.0
        self.synced = False
        """Every kind was listed once, but for those that we may not read."""
        self.waits_for = "a certificate"
        """What keeps us from serving trainers and Alertmanager; empty once we do."""
        self.denied: dict[str, str] = {}
        """What we may not read (`place`), and the API server's sentence about it."""

    def deny(self, what: str, message: str) -> bool:
        """Note that something can't be read; say whether that is news."""
        news = self.denied.get(what) != message
        self.denied[what] = message
        return news

    def allowed(self, what: str) -> None:
        """Note that it was read."""
        self.denied.pop(what, None)

    def event(self) -> None:
        """Note that a watch delivered something."""
        self._last_event = self._clock()
        self._unheard = 0.0

    def contact(self) -> None:
        """Note that the API server answered a direct call about the Lease."""
        now = self._clock()
        self._unheard += min(_STEP, now - self._last_contact)
        self._last_contact = now

    def event_age(self) -> float:
        """Return the seconds since the last event, and set the metric."""
        age = self._clock() - self._last_event
        metrics.LAST_EVENT_AGE.set(age)
        return age

    def problem(self) -> str | None:
        """Return why the process should be restarted, or None. That it answers proves the loop."""
        if self._unheard > _SILENCE:
            return f"no watch has delivered an event for {self.event_age():.0f} s"
        return None
