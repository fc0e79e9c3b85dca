"""Locks between commands: two terminals may run this at once, and neither may meet half a state."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console import say


@contextmanager
def exclusive(path: Path, step: str = "", waiting: str = "") -> Iterator[None]:
    """Hold the lock file; with `waiting`, say so when somebody else holds it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(step, waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
