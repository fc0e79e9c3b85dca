"""Which HTTP status a refusal has, and what FastAPI's findings are as refusals."""

from collections.abc import Mapping
from typing import Any

from policy_models import complaints
from policy_models.decision import TOO_LONG, Refusal

_STATUS = {complaints.NOT_JSON: 400, TOO_LONG: 413}


def status_of(refusal: Refusal) -> int:
    """Return the HTTP status of what can't be asked."""
    return _STATUS.get(refusal.code, 422)


def complaint(finding: Mapping[str, Any]) -> Refusal:
    """Return what to say about one entry of a RequestValidationError's `errors()`."""
    return complaints.complaint(finding, finding["loc"][1:])  # the first part is `body`
