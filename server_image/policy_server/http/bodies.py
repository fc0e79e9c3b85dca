"""The JSON of a request's body, read by one reader for all routes."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from policy_models.json_text import NotJSONError, parse
from starlette.exceptions import HTTPException
from typing_extensions import override


class _Request(Request):
    @override
    async def json(self) -> Any:
        """Return what the body says.

        Raises:
            HTTPException: 400: it can't be taken; the detail says what to change.
        """
        try:
            return parse(await self.body(), "the body")
        except NotJSONError as error:
            raise HTTPException(400, str(error)) from error


class JSONRoute(APIRoute):
    """Reads its body strictly: see policy_models.json_text."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handled
