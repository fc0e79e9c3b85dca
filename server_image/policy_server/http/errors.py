"""Which HTTP status has what is no decision, and what FastAPI's findings are as refusals."""

from collections.abc import Mapping
from typing import Any

from policy_models import complaints
from policy_models.decision import TOO_LONG, Refusal

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
