"""What a person sees: one line for each thing that happens, with the seconds since the start.

Every long step says what it does and how far it is. Threads share the terminal, so each line is
written whole under a lock and names its step.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SPEAK_SECONDS = 15.0
_STARTED = time.monotonic()
_LOCK = threading.Lock()


class ClusterError(Exception):
    """Something a person has to know, as one sentence; `log` names the file that says more."""

    def __init__(self, sentence: str, log: Path | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.log = log

    def explain(self, lines: int = 15) -> str:
        """The sentence, and the last lines of the log when there is one."""
        if self.log is None or not self.log.exists():
            return self.sentence
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        shown = "\n".join(f"    {line[:300]}" for line in tail) or "    (empty)"
        return f"{self.sentence}\n  last lines of {self.log}:\n{shown}"


def say(step: str, text: str) -> None:
    """Print one progress line to standard error; standard output is kept for answers."""
    with _LOCK:
        print(
            f"{time.monotonic() - _STARTED:6.1f}s  {step:<12} {text}", file=sys.stderr, flush=True
        )


@contextmanager
def timed(step: str, text: str) -> Iterator[None]:
    """Say what starts, and how long it took when it ends well."""
    say(step, text)
    begin = time.monotonic()
    yield
    say(step, f"{text}: done in {time.monotonic() - begin:.1f} s")


def wait_for(
    what: str,
    check: Callable[[], bool],
    *,
    timeout: float,
    log: Path | None = None,
    alive: Callable[[], bool] = lambda: True,
    step: str = "",
    every: float = 0.1,
) -> None:
    """Wait until `check` holds, asking every `every` seconds and speaking up every 15.

    `alive` tells whether waiting still makes sense (the process that should become ready is there).
    Raises ClusterError when it is not, or after `timeout` seconds.
    """
    begin = spoke = time.monotonic()
    while not check():
        now = time.monotonic()
        if not alive():
            raise ClusterError(f"Gave up waiting until {what}: its process ended.", log)
        if now - begin > timeout:
            raise ClusterError(f"Gave up waiting until {what}, after {timeout:.0f} s.", log)
        if step and now - spoke > _SPEAK_SECONDS:
            spoke = now
            say(step, f"still waiting until {what} ({now - begin:.0f} of at most {timeout:.0f} s)")
        time.sleep(every)
