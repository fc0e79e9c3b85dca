"""POST /v1/chat/completions: a text policy for clients that speak OpenAI's protocol."""

import logging
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from policy_api.contract import paths
from policy_models.decision import TOO_LONG, Refusal
from policy_models.decision import Request as Asked
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from typing_extensions import override

from policy_server.decisions.results import Decision, Failure, Outcome, new_id
from policy_server.decisions.service import DecisionService
from policy_server.http import streaming
from policy_server.http.chat_schemas import (
    ChatError,
    ChatErrorBody,
    ChatRequest,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Reason,
    Said,
    Usage,
)
from policy_server.http.errors import RETRY_AFTER_SECONDS, complaint, status_of
from policy_server.http.headers import Role
from policy_server.metrics import role_of

log = logging.getLogger(__name__)

CODES = {TOO_LONG: "context_length_exceeded"}  # those that clients know by another word
END = b"data: [DONE]\n\n"


class Serving(Protocol):
    """What this needs to know of the server."""

    policy: str
    version: int
    service: DecisionService | None


class Refused(Exception):  # noqa: N818 - it is an answer
    """The request can't be answered; the route says so in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


class ChatRoute(APIRoute):
    """Says what is wrong in OpenAI's form."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Refused as refused:
                return _error(refused)
            except RequestValidationError as problem:
                finding = problem.errors()[0]
                found = complaint(finding)
                param = ".".join(map(str, finding["loc"][1:])) or None
                return _error(Refused(status_of(found), found.message, found.code, param))
            except HTTPException as problem:
                return _error(Refused(problem.status_code, str(problem.detail), "BadRequest"))

        return handled


def add(app: FastAPI, state: Serving) -> None:
    """Add the route."""
    router = APIRouter(route_class=ChatRoute)
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ChatError} for status in (400, 404, 413, 415, 422, 500, 503, 504)
    }

    @router.post(paths.CHAT, response_model=Completion, responses=errors)
    async def complete(body: ChatRequest, role: Role = None) -> Response:
        """Answer a conversation, for clients that speak OpenAI's protocol."""
        service = _service(state, body)
        asked, decision_id = Asked(question=body.question()), new_id()
        said = service.stream(asked, role_of(role), decision_id)
        answer = _Answer(state, body, decision_id)
        if body.stream:
            first = await anext(said)
            if not isinstance(first, str | Decision):
                raise _refused(first)
            return streaming.response(first, said, answer.chunks)
        async for one in said:
            if isinstance(one, Decision):
                return _json(answer.whole(one))
            if not isinstance(one, str):
                raise _refused(one)
        raise AssertionError("the outcome is the last that is said")

    app.include_router(router)


def _service(state: Serving, body: ChatRequest) -> DecisionService:
    """Return what answers.

    Raises:
        Refused: It can't be asked this.
    """
    service = state.service
    if service is None:
        raise Refused(503, "the policy is being loaded: try again in a moment", "NotReady")
    if body.model != state.policy:
        message = f"there is no model {body.model!r} here: set model to {state.policy!r}"
        raise Refused(404, message, "model_not_found", "model")
    if not service.writes:
        message = "this policy writes no texts: ask POST /v1/decisions, see /docs"
        raise Refused(400, message, "InvalidRequest")
    if fault := body.fault(service.artifact.manifest.generation):
        param, message = fault
        raise Refused(400, message, "InvalidRequest", param)
    return service


class _Answer:
    """Writes one answer in OpenAI's form."""

    def __init__(self, state: Serving, body: ChatRequest, decision_id: str) -> None:
        self._about: dict[str, Any] = {
            "id": decision_id,
            "created": int(time.time()),
            "model": state.policy,
            "system_fingerprint": f"v{state.version}",
        }
        self._usage = body.stream_options is not None and body.stream_options.include_usage
        self._begun = False

    def whole(self, decision: Decision) -> Completion:
        """Return it at once."""
        message = Said(role="assistant", content=decision.chosen.action)
        choice = Choice(message=message, finish_reason=_reason(decision))
        return Completion(**self._about, choices=(choice,), usage=_usage(decision))

    def chunks(self, one: str | Outcome) -> bytes:
        """Return events for some of its text, for its end, or for what came instead."""
        if isinstance(one, str):
            role = None if self._begun else "assistant"
            self._begun = True
            return self._chunk(ChunkChoice(delta=Said(role=role, content=one)))
        if isinstance(one, Decision):
            end = self._chunk(ChunkChoice(delta=Said(), finish_reason=_reason(one)))
            if self._usage:
                chunk = Chunk(**self._about, choices=(), usage=_usage(one))
                end += streaming.event(None, chunk)
            return end + END
        return streaming.event(None, _body(_refused(one)))

    def _chunk(self, choice: ChunkChoice) -> bytes:
        return streaming.event(None, Chunk(**self._about, choices=(choice,)))


def _reason(decision: Decision) -> Reason:
    return "length" if decision.written is not None and not decision.written.stopped else "stop"


def _usage(decision: Decision) -> Usage:
    read = 0 if decision.written is None else decision.written.prompt_tokens
    wrote = decision.chosen.tokens or 0
    return Usage(prompt_tokens=read, completion_tokens=wrote, total_tokens=read + wrote)


def _refused(result: Failure | Refusal) -> Refused:
    said = result if isinstance(result, Refusal) else result.fault
    return Refused(status_of(result), said.message, CODES.get(said.code, said.code))


def _error(refused: Refused) -> Response:
    fields = {"status": refused.status, "code": refused.code}
    log.info("refused", extra={"fields": fields})
    response = _json(_body(refused), refused.status)
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["retry-after"] = RETRY_AFTER_SECONDS
    return response


def _body(refused: Refused) -> ChatError:
    server = refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return ChatError(
        error=ChatErrorBody(
            message=refused.message,
            type="server_error" if server else "invalid_request_error",
            param=refused.param,
            code=refused.code,
        )
    )


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")
