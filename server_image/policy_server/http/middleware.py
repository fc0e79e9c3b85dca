"""What every request passes before it is parsed: type, size, time, and the drain's farewell."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from policy_server.http.crowd import Crowd, Place

MAX_BODY = 1 << 20  # bytes
# From the first look at a body until it is whole. A phone sends a megabyte in less.
BODY_SECONDS = 20.0


class Guard:
    """ASGI middleware. A body is judged when the route asks for it, so a GET is never refused.

    While the server drains, each response closes its connection: a gateway that keeps connections
    open would otherwise send a request into the moment in which the process closes them.
    """

    def __init__(
        self,
        app: ASGIApp,
        draining: Callable[[], bool],
        crowd: Crowd,
        body_seconds: Callable[[], float],
    ) -> None:
        """Take what comes next.

        Args:
            app: Serves what passes.
            draining: Whether connections are closed now.
            crowd: What is held of bodies.
            body_seconds: How long a body may take to come.
        """
        self._app = app
        self._draining = draining
        self._crowd = crowd
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def farewell(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        place = Place(self._crowd)
        body = _Body(Headers(scope=scope), receive, place, self._body_seconds())
        try:
            await self._app(scope, body.judged, farewell)
        finally:
            place.leave()


class _Body:
    """A request's body, judged as it comes."""

    def __init__(self, headers: Headers, receive: Receive, place: Place, seconds: float) -> None:
        self._headers = headers
        self._receive = receive
        self._place = place
        self._seconds = seconds
        self._until: float | None = None  # set when it is first asked for
        self._seen = 0
        self._whole = False

    async def judged(self) -> Message:
        """Return what comes next of it, or that the caller has gone."""
        if self._whole:
            return await self._receive()
        if self._until is None:
            _check_type(self._headers)
            _check_size(int(self._headers.get("content-length", "0")))  # h11 checked digits
            self._place.take(0)
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408,
                f"the body has not come within {self._seconds:g} s: send it faster",
                headers={"connection": "close"},
            ) from None
        size = len(message.get("body", b""))
        self._seen += size
        _check_size(self._seen)  # a chunked body declares no length
        self._place.take(size)
        self._whole = not message.get("more_body", False)
        return message


def _check_type(headers: Headers) -> None:
    declared = headers.get("content-type", "")
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            415, f"send Content-Type: application/json, not {declared or 'nothing'}"
        )
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() not in {"", "identity"}:
        raise HTTPException(415, f"send the body as it is, without Content-Encoding: {coding}")


def _check_size(size: int) -> None:
    if size > MAX_BODY:
        raise HTTPException(413, f"the body has more than {MAX_BODY} bytes: send a shorter prompt")
