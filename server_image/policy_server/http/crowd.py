"""How much of what callers send the server holds at once: what is more is sent away, with 503."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

from policy_server.decisions.results import OVERLOADED
from policy_server.http.errors import RETRY_AFTER_SECONDS


@dataclass
class Crowd:
    """Requests whose bodies were asked for and that are not answered yet.

    The queue before the model bounds decisions; this bounds what is read before they are any.
    """

    most_requests: int = 1024
    most_bytes: int = 32 << 20  # Python's objects take about ten times as much
    requests: int = 0
    bytes: int = 0


class Place:
    """The place of one request in the crowd. Leave it in any case."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._in = False
        self._held = 0

    def take(self, size: int) -> None:
        """Take a place, and room for so many more bytes.

        Raises:
            HTTPException: 503: there is none.
        """
        crowd = self._crowd
        if not self._in:
            if crowd.requests >= crowd.most_requests:
                raise _full()
            crowd.requests += 1
            self._in = True
        if size > crowd.most_bytes - crowd.bytes:
            raise _full()
        crowd.bytes += size
        self._held += size

    def leave(self) -> None:
        """Make room."""
        self._crowd.requests -= int(self._in)
        self._crowd.bytes -= self._held
        self._in, self._held = False, 0


def _full() -> HTTPException:
    return HTTPException(
        OVERLOADED.status, OVERLOADED.message, headers={"retry-after": RETRY_AFTER_SECONDS}
    )
