"""Which HTTP status has what is no decision, and what FastAPI's findings are as refusals."""

from collections.abc import Mapping
from typing import Any

from policy_models import complaints
from policy_models.decision import INVALID, TOO_LONG, Refusal
from starlette.exceptions import HTTPException
from starlette.requests import Request

from policy_server.decisions.results import OVERLOADED, Failure

RETRY_AFTER_SECONDS = "1"  # a queue of 64 short answers is empty by then
_CODES = {
    400: "NotJSON",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "BodyTooSlow",
    413: "BodyTooLong",
    415: "NotJSON",
    422: INVALID,  # of a user's own path, whose fields don't become a call's
    503: OVERLOADED.code,
}
_STATUS = {complaints.NOT_JSON: 400, TOO_LONG: 413}


def status_of(result: Refusal | Failure) -> int:
    """Return the HTTP status of what can't be asked, or failed."""
    if isinstance(result, Refusal):
        return _STATUS.get(result.code, 422)
    return result.fault.status


def complaint(finding: Mapping[str, Any]) -> Refusal:
    """Return what to say about one entry of a RequestValidationError's `errors()`."""
    return complaints.complaint(finding, finding["loc"][1:])  # the first part is `body`


def told(request: Request, problem: HTTPException) -> tuple[str, str]:
    """Return the code and the sentence of what the HTTP layer refuses."""
    path = request.url.path
    code = _CODES.get(problem.status_code, "Refused")
    match problem.status_code:
        case 404:
            return code, f"there is no {path} here: see /docs"
        case 405:
            return code, f"{path} does not take {request.method}: see /docs"
        case _:
            return code, str(problem.detail)
