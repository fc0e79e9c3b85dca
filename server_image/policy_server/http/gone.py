"""A caller that went away is not computed for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")

STATUS = 499  # as nginx calls it; nobody reads it


class CallerGoneError(Exception):
    """Who asked has closed the connection."""


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of some work, which is cancelled when who asked goes away.

    Args:
        request: Its body has been read.
        work: What is done for it.

    Raises:
        CallerGoneError: The connection was closed first.
    """
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CallerGoneError
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
