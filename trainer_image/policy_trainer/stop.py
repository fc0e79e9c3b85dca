"""Whether this process was asked to stop; imports nothing slow, so that it works from the start."""

import signal
from typing import Self

from policy_trainer.state import stop_file


class StopRequest:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self._signalled = False

    @classmethod
    def install(cls) -> Self:
        """Take SIGTERM from now on. The first thing a worker does: importing takes 10 s."""
        request = cls()
        signal.signal(signal.SIGTERM, request._on_signal)
        return request

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

    @property
    def made(self) -> bool:
        """Whether somebody asked."""
        return self._signalled or stop_file().exists()
