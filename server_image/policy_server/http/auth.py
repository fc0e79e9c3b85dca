"""Who may call /v1, and who does: before anything of a request is read.

Probes, /metrics and the documentation ask for no token: the route does not publish them.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import Security
from fastapi.security import HTTPBearer
from policy_api.keys import ROLE_HEADER, USER_HEADER
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from policy_server.http.tokens import Tokens

PROTECTED = "/v1"
USER_CHARACTERS = 256  # kept of what a caller says for whom it calls
_CALLER = "caller"  # in the request's state


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as far as that is proved."""

    name: str
    """Of the token; `local`: a program on this machine, where that is enough."""
    user: str | None = None
    """For whom it calls, in its own words: x-policyops-user. It is believed, as the token is."""


LOCAL = Caller("local")


@dataclass(frozen=True)
class Door:
    """Who is let in."""

    tokens: Tokens | None = None
    """None: everybody, and nobody has a name."""
    trusts_loopback: bool = False
    """Without tokens, whoever calls from this machine is `local`. Never in a pod, where a proxy
    beside the server makes everybody look like that."""


EVERYBODY = Door()


def described(door: Door, error: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of it, as arguments of FastAPI."""
    if door.tokens is None:
        return {}
    scheme = HTTPBearer(auto_error=False, description="A token of this policy's callers.")
    said = {"model": error, "description": "The token is missing or not a caller's."}
    return {"dependencies": [Security(scheme)], "responses": {401: said}}


def caller_of(request: HTTPConnection) -> Caller | None:
    """Return who sent the request; None where nobody proved anything.

    What belongs to somebody, such as a decision that is looked up, is for known callers only.
    """
    found = request.scope.get("state", {}).get(_CALLER)
    return found if isinstance(found, Caller) else None


class Guarded:
    """ASGI middleware: answers 401, or says who calls. The header of a user is nobody's word."""

    def __init__(
        self,
        app: ASGIApp,
        door: Door,
        refuse: Callable[[str, str | None, str], Response],
        also: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        """Take what comes next.

        Args:
            app: Serves who is let in.
            door: Who that is.
            refuse: Makes the answer to all others, from path, role header and a sentence.
            also: Whether a path that is not below /v1 asks for a token too.
        """
        self._app = app
        self._door = door
        self._refuse = refuse
        self._also = also

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = self._caller(scope, headers)
        if caller is None and self._door.tokens is not None and self._protected(scope["path"]):
            response = self._refuse(scope["path"], headers.get(ROLE_HEADER), _why(headers))
            response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        kept = [item for item in scope["headers"] if item[0] != USER_HEADER.encode()]
        state = {**scope.get("state", {}), _CALLER: caller}
        await self._app({**scope, "headers": kept, "state": state}, receive, send)

    def _protected(self, path: str) -> bool:
        return path == PROTECTED or path.startswith(PROTECTED + "/") or self._also(path)

    def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        tokens = self._door.tokens
        if tokens is None:
            return LOCAL if self._door.trusts_loopback and _loopback(scope) else None
        token = _token(headers)
        name = None if token is None else tokens.name_of(token)
        if name is None:
            return None
        user = headers.get(USER_HEADER, "")[:USER_CHARACTERS]
        return Caller(name, user or None)


def _token(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _why(headers: Headers) -> str:
    if _token(headers) is None:
        return "send a token of this policy's callers: Authorization: Bearer <token>"
    return "this token is not one of this policy's callers: ask whoever runs it for a token"


def _loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return False
    return _is_loopback(client[0])


@lru_cache(1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
