"""What came of decisions, what people say of them, and one decision with both."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request, Response
from policy_api.contract import paths
from policy_models.outcomes import FeedbackRequest, OutcomeRequest
from policy_records import wire
from pydantic import BaseModel

from policy_server.http.auth import Caller, caller_of
from policy_server.http.record_schemas import FeedbackResponse, OutcomeResponse, RecordResponse
from policy_server.http.responses import json_response
from policy_server.http.schemas import ErrorResponse
from policy_server.records.errors import (
    ForeignDecisionError,
    LogAwayError,
    LogFullError,
    RefusedEntryError,
)
from policy_server.records.keywords import Keywords

if TYPE_CHECKING:  # its libraries take a second, and there may be no log
    from policy_server.records.log import DecisionLog

Refuse = Callable[[int, str, str], Response]
"""From a status, a code and a sentence."""


class Serving(Protocol):
    """What this needs to know of the server."""

    log: "DecisionLog | None"
    keywords: Keywords


@dataclass(frozen=True)
class _Refused(Exception):  # noqa: N818 - it is an answer
    status: int
    code: str
    message: str


NO_LOG = _Refused(
    404, "NoDecisionLog", "this policy keeps no decision log: set spec.server.decisionLog"
)
FULL = _Refused(
    503, "LogFull", "the decision log can't keep more now: send it again after Retry-After"
)
UNKNOWN = _Refused(404, "NotFound", "there is no decision of this policy with this decisionId")
NOBODY = _Refused(
    403,
    "Forbidden",
    "only known callers look decisions up: set spec.server.auth, and send a token of it",
)


_ERRORS = {
    403: "Only known callers may.",
    404: "There is no such decision of this policy, or no decision log.",
    413: "The body is too long.",
    415: "The body is not declared as JSON.",
    422: "The request's shape is wrong.",
    503: "The decision log is away or full: try again.",
}


def _documented(*statuses: int) -> Any:
    return {status: {"model": ErrorResponse, "description": _ERRORS[status]} for status in statuses}


def name_of(caller: Caller | None) -> str | None:
    """Return under which name what a caller says is kept."""
    if caller is None:
        return None
    return caller.name if caller.user is None else f"{caller.name}/{caller.user}"


def add(app: FastAPI, state: Serving, refuse: Refuse) -> None:
    """Add the routes.

    Args:
        app: Of the server.
        state: Of the server.
        refuse: Makes the answers that are none.
    """

    async def answer(made: Awaitable[BaseModel]) -> Response:
        try:
            body = await made
        except _Refused as refused:
            return refuse(refused.status, refused.code, refused.message)
        return json_response(body)

    @app.post(
        f"{paths.DECISIONS}/{{decision_id}}/outcome",
        response_model=OutcomeResponse,
        responses=_documented(404, 413, 415, 422, 503),
    )
    async def outcome(decision_id: str, body: OutcomeRequest, request: Request) -> Response:
        """Say what came of a decision: in parts, later, twice, before it is in the log."""
        return await answer(_outcome(state, decision_id, body, caller_of(request)))

    @app.post(
        paths.FEEDBACK,
        response_model=FeedbackResponse,
        responses=_documented(404, 413, 415, 422, 503),
    )
    async def feedback(body: FeedbackRequest, request: Request) -> Response:
        """Say what a person thinks of a decision, or of a run of several."""
        return await answer(_feedback(state, body, caller_of(request)))

    @app.get(
        f"{paths.DECISIONS}/{{decision_id}}",
        response_model=RecordResponse,
        responses=_documented(403, 404, 422, 503),
    )
    async def record(decision_id: str, request: Request) -> Response:
        """Look a decision up, with its outcome and feedback: for known callers."""
        return await answer(_record(state, decision_id, caller_of(request)))


async def _outcome(
    state: Serving, decision_id: str, body: OutcomeRequest, caller: Caller | None
) -> OutcomeResponse:
    log, found = _log(state), _id(decision_id)
    await _kept(log.outcome(found, body, name_of(caller)))
    return OutcomeResponse(decision_id=str(found))


async def _feedback(
    state: Serving, body: FeedbackRequest, caller: Caller | None
) -> FeedbackResponse:
    log = _log(state)
    entry = await _kept(log.feedback(body, state.keywords, name_of(caller)))
    label: Any = None if entry.label is None else str(entry.label)
    return FeedbackResponse(feedback_id=str(entry.id), label=label)


async def _record(state: Serving, decision_id: str, caller: Caller | None) -> RecordResponse:
    log = _log(state)
    if caller is None:
        raise NOBODY
    try:
        row = await log.find(_id(decision_id))
    except LogAwayError as error:
        raise _Refused(
            503, "LogAway", "the decision log can't be read now: try again after Retry-After"
        ) from error
    if row is None:
        raise UNKNOWN
    return RecordResponse.model_validate(wire.shown(row))


async def _kept(said: Awaitable[Any]) -> Any:
    try:
        return await said
    except ForeignDecisionError as error:
        raise UNKNOWN from error
    except LogFullError as error:
        raise FULL from error
    except RefusedEntryError as error:
        message = "the database can't keep this: send less, or plainer text"
        raise _Refused(422, "InvalidRequest", message) from error


def _log(state: Serving) -> "DecisionLog":
    if state.log is None:
        raise NO_LOG
    return state.log


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        message = "a decisionId is a UUID, as POST /v1/decisions answers it"
        raise _Refused(422, "InvalidRequest", message) from error
