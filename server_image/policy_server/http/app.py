"""The HTTP interface: thin; what a decision is lives in service.py."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from policy_api.contract import paths
from policy_api.keys import ROLE_HEADER
from policy_api.v1alpha1.serving import Mode
from policy_models.actions import SEQUENCE
from policy_models.decision import Refusal
from policy_models.requests import DecisionRequest, ScoresRequest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from policy_server.decisions.results import (
    OVERLOADED,
    Decision,
    Failure,
    Outcome,
    new_id,
)
from policy_server.decisions.service import DecisionService
from policy_server.http import chat, probes, records, routes, streaming
from policy_server.http.about import about
from policy_server.http.auth import EVERYBODY, Door, Guarded, described
from policy_server.http.bodies import JSONRoute
from policy_server.http.crowd import Crowd
from policy_server.http.errors import RETRY_AFTER_SECONDS, complaint, status_of, told
from policy_server.http.gone import STATUS as GONE
from policy_server.http.gone import CallerGoneError, while_there
from policy_server.http.headers import Accept, Role
from policy_server.http.middleware import BODY_SECONDS, Guard
from policy_server.http.responses import json_response
from policy_server.http.schemas import (
    DecisionResponse,
    ErrorBody,
    ErrorResponse,
    OptionBody,
    PolicyResponse,
    ScoreBody,
    ScoresResponse,
    TokenBody,
    reasons_of,
)
from policy_server.metrics import Metrics, role_of
from policy_server.peers import Peers
from policy_server.records.keywords import Keywords
from policy_server.settings import HANG_SECONDS

if TYPE_CHECKING:  # its libraries take a second, and there may be no log
    from policy_server.records.log import DecisionLog

log = logging.getLogger(__name__)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in (
        (400, "The body is not JSON."),
        (408, "The body has not come in time."),
        (413, "The body or the prompt is too long."),
        (415, "The body is not declared as JSON."),
        (422, "The request's shape is wrong."),
        (500, "The answer broke its schema, or the model failed, and there is no baseline."),
        (503, "Not ready, or too many decisions wait."),
        (504, "The policy took longer than timeoutMilliseconds, and there is no baseline."),
    )
}


Body = TypeVar("Body", DecisionRequest, ScoresRequest)


@dataclass
class State:
    """What changes while the process lives: not ready, ready, draining."""

    policy: str
    version: int
    metrics: Metrics
    service: DecisionService | None = None
    log: "DecisionLog | None" = None
    keywords: Keywords = field(default_factory=Keywords)
    """What feedback comes to that has no label."""
    draining: bool = False
    hang_seconds: float = HANG_SECONDS
    body_seconds: float = BODY_SECONDS
    crowd: Crowd = field(default_factory=Crowd)
    peers: Peers = field(default_factory=Peers)

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.service is not None and not self.draining


def create_app(state: State, door: Door = EVERYBODY) -> FastAPI:
    """Build the application around `state`, for those whom `door` lets in."""
    app = FastAPI(
        title=f"{state.policy}, version {state.version}",
        description="Decisions of one version of one policy.",
        version=str(state.version),
        **described(door, ErrorResponse),
    )

    def stop(path: str, role: str | None, message: str) -> Response:
        state.metrics.unauthorized(role_of(role))
        if path == paths.CHAT:
            return chat.refusal(401, message, "invalid_api_key")
        return _refuse(state, 401, "Unauthorized", message)

    def of_user(path: str) -> bool:
        return routes.find(state, path) is not None

    app.add_middleware(Guarded, door=door, refuse=stop, also=of_user)
    app.router.route_class = JSONRoute
    app.add_middleware(
        Guard,
        draining=lambda: state.draining,
        crowd=state.crowd,
        body_seconds=lambda: state.body_seconds,
    )
    _add_decisions(app, state)
    chat.add(app, state)
    records.add(app, state, partial(_refuse, state))
    routes.add(app, state)
    probes.add(app, state)
    _add_refusals(app, state)
    return app


def _add_decisions(app: FastAPI, state: State) -> None:
    responses = {**ERRORS, **streaming.DESCRIBED}

    @app.post(paths.DECISIONS, response_model=DecisionResponse, responses=responses)
    async def decide(
        request: Request, body: DecisionRequest, role: Role = None, accept: Accept = None
    ) -> Response:
        """Ask the policy for one decision; with `Accept: text/event-stream`, as it is written."""
        if streaming.wanted(accept):
            return await _stream(state, request, body, role)
        return await _answer(state, request, body, role, _decided)

    @app.post(paths.SCORES, response_model=ScoresResponse, responses=ERRORS)
    async def score(request: Request, body: ScoresRequest, role: Role = None) -> Response:
        """Rank candidates: plans, or answers to a prompt."""
        return await _answer(state, request, body, role, _scored)

    @app.get("/v1/policy", response_model=PolicyResponse, responses={503: ERRORS[503]})
    async def policy() -> Response:
        """Say which version serves here, and how it was trained."""
        if state.service is None:
            return _not_ready(state)
        artifact, serving = state.service.artifact, state.service.serving
        own = {
            "sha256": artifact.sha256,
            "inputs": state.service.inputs,
            "serving": serving.config,
            "serving_problems": serving.problems or None,
        }
        shared = set(PolicyResponse.model_fields) - set(own)
        values = {name: getattr(artifact.manifest, name) for name in shared}
        return json_response(PolicyResponse(**own, **values))


async def _answer(
    state: State,
    request: Request,
    body: Body,
    role: str | None,
    shown: Callable[[State, Body, Decision], BaseModel],
) -> Response:
    if state.service is None:
        return _not_ready(state)
    ranks = isinstance(body, ScoresRequest)
    asked, told = body.request(), about(request, body)
    deciding = state.service.decide(asked, role_of(role), told, ranks=ranks)
    result = await (while_there(request, deciding) if state.service.slow else deciding)
    if isinstance(result, Decision):
        return json_response(shown(state, body, result))
    return _not_decided(state, result)


async def _stream(
    state: State, request: Request, body: DecisionRequest, role: str | None
) -> Response:
    if state.service is None:
        return _not_ready(state)
    asked, told = body.request(), about(request, body)
    said = state.service.stream(asked, role_of(role), new_id(), told)
    first = await while_there(request, streaming.first(said))
    if not isinstance(first, str | Decision):
        return _not_decided(state, first)

    def event(one: str | Outcome) -> bytes:
        if isinstance(one, str):
            return streaming.event("token", TokenBody(text=one))
        if isinstance(one, Decision):
            return streaming.event("decision", _decided(state, body, one))
        return streaming.event("error", _error_body(state, *_told(one)))

    return streaming.response(first, said, event)


def _not_decided(state: State, result: Failure | Refusal) -> Response:
    code, message, decision_id = _told(result)
    if isinstance(result, Refusal):
        return _refuse(state, status_of(result), code, message)
    return _error(state, status_of(result), code, message, decision_id)


def _told(result: Failure | Refusal) -> tuple[str, str, str | None]:
    """Return the code and the sentence of what is no decision, and its id if it has one."""
    if isinstance(result, Refusal):
        return result.code, result.message, None
    return result.fault.code, result.fault.message, result.asked.decision_id


def _decided(state: State, body: DecisionRequest, decision: Decision) -> DecisionResponse:
    assert state.service is not None  # it has just answered
    chosen, text = decision.chosen, state.service.writes
    advised = decision.asked.mode is Mode.ADVISOR  # a person takes one of the ranking
    parts = tuple(chosen.action.split(SEQUENCE))
    written = text and body.candidates is None  # there is no other
    return DecisionResponse(
        decision_id=decision.asked.decision_id,
        policy=state.policy,
        version=state.version,
        mode=decision.asked.mode,
        source=decision.answer.source,
        action=None if text or advised else chosen.action,
        sequence=parts if body.state is not None and len(parts) > 1 and not advised else None,
        answer=chosen.action if text and not advised else None,
        auto_approved=decision.answer.auto_approved,
        fields=decision.fields,
        confidence=chosen.confidence,
        propensity=chosen.probability,
        ranking=None
        if written and not advised
        else tuple(
            OptionBody.of(option, text=text, explain=body.explain)
            for option in decision.ranking[: body.top_k]
        ),
        unseen=decision.unseen or None,
        tokens=chosen.tokens,
        latency_seconds=decision.asked.seconds,
    )


def _scored(state: State, body: ScoresRequest, decision: Decision) -> ScoresResponse:
    place = {text: index for index, text in reversed(list(enumerate(body.candidates)))}
    return ScoresResponse(
        decision_id=decision.asked.decision_id,
        policy=state.policy,
        version=state.version,
        scores=tuple(
            ScoreBody(
                index=place[option.action],
                score=option.score,
                confidence=option.confidence,
                reasons=reasons_of(option, explain=body.explain),
            )
            for option in decision.ranking
        ),
        latency_seconds=decision.asked.seconds,
    )


def _add_refusals(app: FastAPI, state: State) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, problem: RequestValidationError) -> Response:
        found = complaint(problem.errors()[0])
        return _refuse(state, status_of(found), found.code, found.message)

    @app.exception_handler(CallerGoneError)
    async def gone(_request: Request, _problem: CallerGoneError) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, problem: HTTPException) -> Response:
        code, message = told(request, problem)
        if code == OVERLOADED.code:
            state.metrics.overloaded(role_of(request.headers.get(ROLE_HEADER)))
        if request.url.path == paths.CHAT:
            response = chat.refusal(problem.status_code, message, code)
        else:
            response = _refuse(state, problem.status_code, code, message)
        response.headers.update(problem.headers or {})
        return response


def _not_ready(state: State) -> Response:
    return _refuse(state, 503, "NotReady", "the policy is being loaded: try again in a moment")


def _refuse(state: State, status: int, code: str, message: str) -> Response:
    """Answer what is no decision; it gets a line of its own in the log."""
    log.info("refused", extra={"fields": {"status": status, "code": code}})
    return _error(state, status, code, message)


def _error(
    state: State, status: int, code: str, message: str, decision_id: str | None = None
) -> Response:
    response = json_response(_error_body(state, code, message, decision_id), status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["retry-after"] = RETRY_AFTER_SECONDS
    return response


def _error_body(
    state: State, code: str, message: str, decision_id: str | None = None
) -> ErrorResponse:
    return ErrorResponse(
        error=ErrorBody(code=code, message=message),
        policy=state.policy,
        version=state.version,
        decision_id=decision_id,
    )
