"""A user's own paths: each is one of the server's calls, made inside the process.

The call is made through the same routing as if it had come from outside, so that there is one code
path: what it checks, counts and logs is the same. Paths that the server has itself come first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

from fastapi import FastAPI
from policy_api.contract.serving import ServingConfig
from policy_api.keys import ROLE_HEADER
from policy_api.v1alpha1.routes import Route
from policy_models.json_text import NotJSONError, parse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from policy_server.decisions.results import new_id
from policy_server.decisions.service import DecisionService
from policy_server.http import composition, mapping
from policy_server.metrics import Metrics, role_of
from policy_server.peers import Peers

# Of the request, which the call gets in another shape; and what asks for a stream, which has no
# fields that could be moved.
_REPLACED = {b"content-length", b"transfer-encoding", b"accept"}


class Serving(Protocol):
    """What this needs to know of the server."""

    service: DecisionService | None
    metrics: Metrics
    peers: Peers


def find(state: Serving, path: str) -> Route | None:
    """Return the route of a path, as what is in force now says."""
    if state.service is None:
        return None
    routes: Sequence[Route] = state.service.serving.config.routes or ()
    return next((route for route in routes if route.path == path), None)


def add(app: FastAPI, state: Serving) -> None:
    """Look for a user's routes where the server has none of its own."""
    app.router.default = _Routed(app.router, app.router.default, state)


@dataclass(frozen=True)
class _Call:
    """A call to be made."""

    path: str
    body: bytes
    fields: dict[str, Any] | None
    """What the body has; None: it is no object, and the call will say so."""


class _Routed:
    """ASGI application: serves a user's paths, and hands all else on."""

    def __init__(self, calls: ASGIApp, otherwise: ASGIApp, state: Serving) -> None:
        self._calls = calls
        self._otherwise = otherwise
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = find(self._state, scope["path"]) if scope["type"] == "http" else None
        if route is None or self._state.service is None:
            await self._otherwise(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise HTTPException(405, headers={"allow": "POST"})
        config = self._state.service.serving.config
        try:
            raw = await Request(scope, receive).body()
        except ClientDisconnect:
            return  # there is nobody to answer
        try:
            call = _call(route, raw, scope["query_string"])
        except mapping.UnmappableError as error:
            raise HTTPException(422, str(error)) from error
        except RecursionError as error:
            raise HTTPException(422, "the body is nested too deeply: make it flatter") from error
        heard = _Heard()
        await self._calls(_scope(scope, call), _receive(call.body, receive), heard.send)
        response = await self._answer(route, call, heard, config=config, scope=scope)
        await response(scope, receive, send)

    async def _answer(
        self, route: Route, call: _Call, heard: "_Heard", *, config: ServingConfig, scope: Scope
    ) -> Response:
        """Return what the caller gets: the call's answer with the user's names."""
        told = heard.json()
        if told is None or call.fields is None:
            return heard.response(heard.body)
        if heard.status != HTTPStatus.OK:
            error = told.get("error")
            if heard.status < HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(error, dict):
                error["message"] = mapping.renamed(route, str(error.get("message")))
            return heard.response(_dumped(told))
        if route.then is not None:
            told = {**told, composition.RUN: call.fields[composition.RUN]}
        if route.then is not None and composition.follows(route.then, told):
            headers = Headers(scope=scope)
            second, result = await composition.asked(
                route.then,
                call.fields,
                told,
                config=config,
                peers=self._state.peers,
                authorization=headers.get("authorization"),
            )
            self._state.metrics.peers.then(role_of(headers.get(ROLE_HEADER)), result)
            told = {**told, "then": second}
        return heard.response(_dumped(mapping.answer_of(route, told)))


def _call(route: Route, raw: bytes, query: bytes) -> _Call:
    """Return the call that a request is.

    Raises:
        UnmappableError: It is none.
        HTTPException: 400: It is not JSON.
    """
    try:
        body = parse(raw, "the body")
    except NotJSONError as error:
        raise HTTPException(400, str(error)) from error
    if not isinstance(body, dict):  # the call says what is wrong with it, before it looks at an id
        return _Call(route.to.replace("{id}", "-"), raw, None)
    texts = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    made = mapping.call_of(route, body, texts)
    path = mapping.path_of(route, made)
    if route.then is not None and made.get(composition.RUN) is None:
        made[composition.RUN] = new_id()
    return _Call(path, _dumped(made), made)


def _scope(scope: Scope, call: _Call) -> Scope:
    kept = [item for item in scope["headers"] if item[0] not in _REPLACED]
    length = (b"content-length", str(len(call.body)).encode())
    path = call.path.encode()
    return {
        **scope,
        "path": call.path,
        "raw_path": path,
        "query_string": b"",
        "headers": [*kept, length],
    }


def _receive(body: bytes, receive: Receive) -> Receive:
    """Return what gives out the call's body, and then whether the caller has gone."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


class _Heard:
    """What the call answered."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""
        self._headers: list[tuple[bytes, bytes]] = []

    async def send(self, message: Message) -> None:
        """Take a message."""
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], message["headers"]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    def json(self) -> dict[str, Any] | None:
        """Return the answer's object; None: it is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def response(self, body: bytes) -> Response:
        """Return the answer with another body."""
        response = Response(body, self.status)
        length = [item for item in response.raw_headers if item[0] == b"content-length"]
        kept = [item for item in self._headers if item[0].lower() != b"content-length"]
        response.raw_headers = [*kept, *length]
        return response


def _dumped(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
