"""Which HTTP status has what is no decision, and what FastAPI's findings are as refusals."""

from collections.abc import Mapping
from typing import Any

from policy_models import complaints
from policy_models.decision import TOO_LONG, Refusal

from policy_server.decisions.service import Failure, Overload

RETRY_AFTER_SECONDS = "1"  # a queue of 64 short answers is empty by then
OVERLOADED = "too many decisions are waiting: try again after the time that Retry-After says"
_STATUS = {complaints.NOT_JSON: 400, TOO_LONG: 413}


def status_of(result: Refusal | Failure | Overload) -> int:
    """Return the HTTP status of what can't be asked, or failed."""
    match result:
        case Refusal():
            return _STATUS.get(result.code, 422)
        case Failure():
            return 500
        case Overload():
            return 503


def complaint(finding: Mapping[str, Any]) -> Refusal:
    """Return what to say about one entry of a RequestValidationError's `errors()`."""
    return complaints.complaint(finding, finding["loc"][1:])  # the first part is `body`
