"""The API server is away: said once a minute by one place, whoever tries to reach it."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_SAY_AGAIN = 60.0  # seconds


class Unreachable(OSError):  # noqa: N818 - not an error of ours
    """The API server gave no answer. It was said already; there is no need to log it again."""


class Outage:
    """Whether the API server answers, and since when it does not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._said = 0.0
        self.over: Callable[[], None] = lambda: None
        """Called when the API server answers again."""

    def failed(self, error: BaseException) -> None:
        """Note a call without an answer."""
        now = self._clock()
        if self._since is None:
            self._since = now
        elif now - self._said < _SAY_AGAIN:
            return
        self._said = now
        text = str(error) or type(error).__name__
        away = f" for {now - self._since:.0f} s" if now > self._since else ""
        log.warning("the API server has not answered%s, trying on: %s", away, text)

    def answered(self) -> None:
        """Note an answer, be it a refusal."""
        if self._since is None:
            return
        log.info("the API server answers again, after %.0f s", self._clock() - self._since)
        self._since = None
        self.over()
