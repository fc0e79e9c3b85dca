"""What a request says beside what is asked: who sends it, and what it belongs to."""

from policy_api.keys import WEIGHT_HEADER
from policy_models.requests import Asked
from starlette.requests import Request

from policy_server.decisions.results import About
from policy_server.http.auth import caller_of
from policy_server.http.records import name_of

REQUEST_ID = "x-request-id"
_LONGEST = 128  # characters of a header that are kept


def about(request: Request, body: Asked | None = None) -> About:
    """Return what is kept of a request beside what is asked."""
    return About(
        run_id=None if body is None else body.run_id,
        request_id=request.headers.get(REQUEST_ID, "")[:_LONGEST] or None,
        caller=name_of(caller_of(request)),
        context=None if body is None else body.context,
        weight=_weight(request.headers.get(WEIGHT_HEADER, "")),
    )


def _weight(header: str) -> int | None:
    """Return the share that the route set; whatever else it says is nobody's."""
    known = len(header) <= len("100") and header.isascii() and header.isdigit()
    return min(int(header), 100) if known else None
