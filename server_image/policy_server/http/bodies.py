"""The JSON of a request's body, read by one reader for all routes, and what a route is called with.

FastAPI finds out anew for each request what a route's parameters are, which takes longer than a
small policy needs for its answer. Here that is found out once; what /docs says stays FastAPI's.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_args

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Header
from fastapi.routing import APIRoute
from policy_models.json_text import NotJSONError, parse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from typing_extensions import override

Value = Callable[[Request], Awaitable[Any]]
_MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}


class JSONRoute(APIRoute):
    """Reads its body strictly: see policy_models.json_text. It has no dependencies.

    Its endpoint takes a Request, a pydantic model (the body), headers and parts of its path, and
    returns a Response; any other is left to FastAPI.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint
        signature = inspect.signature(endpoint)
        if signature.return_annotation is not Response:
            return super().get_route_handler()
        values = {name: _value(found) for name, found in signature.parameters.items()}

        async def handled(request: Request) -> Response:
            given = {name: await value(request) for name, value in values.items()}
            response: Response = await endpoint(**given)
            return response

        return handled


def _value(parameter: inspect.Parameter) -> Value:
    """Return what finds the value of an endpoint's parameter in a request."""
    wanted = parameter.annotation
    if isinstance(wanted, type) and issubclass(wanted, Request):
        return _itself
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return _body(wanted)
    for extra in get_args(wanted)[1:]:
        if isinstance(extra, Header):
            return _header(extra.alias or parameter.name.replace("_", "-"))
    assert wanted is str, f"no route takes a {wanted}"
    return _part(parameter.name)


async def _itself(request: Request) -> Request:
    return request


def _body(model: type[BaseModel]) -> Value:
    async def value(request: Request) -> BaseModel:
        raw = await request.body()
        if not raw:
            raise RequestValidationError([_MISSING])
        try:
            found = parse(raw, "the body")
        except NotJSONError as error:
            raise HTTPException(400, str(error)) from error
        try:
            return model.model_validate(found)
        except ValidationError as error:
            findings = error.errors(include_url=False)
            told = [{**finding, "loc": ("body", *finding["loc"])} for finding in findings]
            raise RequestValidationError(told) from error

    return value


def _header(name: str) -> Value:
    async def value(request: Request) -> str | None:
        return request.headers.get(name)

    return value


def _part(name: str) -> Value:
    async def value(request: Request) -> Any:
        return request.path_params[name]

    return value
