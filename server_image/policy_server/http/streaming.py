"""Answers as server-sent events, while they are written."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from policy_server.decisions.results import Outcome
from policy_server.http.responses import text_of

# nginx gathers what it passes on unless it is told not to; Envoy does not.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

# What the OpenAPI document says of it.
DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "At once, or as it is written.",
        "content": {EventSourceResponse.media_type: {"schema": {"type": "string"}}},
    }
}


def wanted(accept: str | None) -> bool:
    """Whether an Accept header names server-sent events."""
    kinds = (part.partition(";")[0].strip().lower() for part in (accept or "").split(","))
    return EventSourceResponse.media_type in kinds


def event(name: str | None, body: BaseModel) -> bytes:
    """Return one event."""
    return format_sse_event(event=name, data_str=text_of(body))


async def first(said: AsyncGenerator[str | Outcome]) -> str | Outcome:
    """Return what is said first; what comes after it is not begun when this is cancelled."""
    return await anext(said)


async def last(said: AsyncGenerator[str | Outcome]) -> Outcome:
    """Return what is said last."""
    async with aclosing(said):
        async for one in said:
            if not isinstance(one, str):
                return one
    raise AssertionError("the outcome is the last that is said")


def response(
    first: str | Outcome,
    said: AsyncGenerator[str | Outcome],
    shown: Callable[[str | Outcome], bytes],
) -> StreamingResponse:
    """Return the stream of an answer.

    Args:
        first: What was said first: it has decided that the status is 200.
        said: What comes after it; closed when the client goes away.
        shown: Writes one of them as events.
    """

    async def events() -> AsyncGenerator[bytes]:
        async with aclosing(said):
            yield shown(first)
            async for one in said:
                yield shown(one)

    return EventSourceResponse(events(), headers=HEADERS)
