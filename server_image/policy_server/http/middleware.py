"""What every request passes before it is parsed: media type, size, and the drain's farewell."""

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20  # bytes


class Guard:
    """ASGI middleware. A body is judged when the route asks for it, so a GET is never refused.

    While the server drains, each response closes its connection: a gateway that keeps connections
    open would otherwise send a request into the moment in which the process closes them.
    """

    def __init__(self, app: ASGIApp, draining: Callable[[], bool]) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def farewell(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        headers = Headers(scope=scope)
        seen = 0

        async def judged() -> Message:
            nonlocal seen
            if seen == 0:
                _check_type(headers)
                _check_size(int(headers.get("content-length", "0")))  # the parser checked digits
            message = await receive()
            seen += len(message.get("body", b""))
            _check_size(seen)  # a chunked body declares no length
            return message

        await self._app(scope, judged, farewell)


def _check_type(headers: Headers) -> None:
    declared = headers.get("content-type", "")
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            415, f"send Content-Type: application/json, not {declared or 'nothing'}"
        )


def _check_size(size: int) -> None:
    if size > MAX_BODY:
        raise HTTPException(413, f"the body has more than {MAX_BODY} bytes: send a shorter prompt")
