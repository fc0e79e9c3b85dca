"""Which HTTP status has what is no decision, and what FastAPI's findings are as refusals."""

from collections.abc import Mapping
from typing import Any

from policy_models import complaints
from policy_models.decision import TOO_LONG, Refusal
from starlette.exceptions import HTTPException
from starlette.requests import Request

from policy_server.decisions.results import Failure

RETRY_AFTER_SECONDS = "1"  # a queue of 64 short answers is empty by then
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
    path, message = request.url.path, str(problem.detail)
    match problem.status_code:
        case 400:  # raised by FastAPI, whose words don't say what to change
            return "NotJSON", "the body is not JSON: send UTF-8 text"
        case 404:
            return "NotFound", f"there is no {path} here: see /docs"
        case 405:
            return "MethodNotAllowed", f"{path} does not take {request.method}: see /docs"
        case 413:
            return "BodyTooLong", message
        case 415:
            return "NotJSON", message
        case _:
            return "Refused", message
