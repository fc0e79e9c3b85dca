"""What the API server refuses, told apart by what a caller can do about it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


class ApiError(Exception):
    """The API server refused a call."""

    def __init__(self, status: int, reason: str, message: str, call: str) -> None:
        super().__init__(f"{call}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class AlreadyExists(ApiError):  # noqa: N818 - the API's own word
    """An object of this name exists."""


class NotFound(ApiError):  # noqa: N818 - the API's own word
    """No such object, or no such API."""


class NamespaceTerminating(ApiError):  # noqa: N818 - the API's own word
    """The namespace is being deleted: nothing new can be made in it, and all of it will go."""


class Invalid(ApiError):  # noqa: N818 - the API's own word
    """The object breaks the API's own rules, whatever admission policies say: it always will."""


class Denied(ApiError):  # noqa: N818 - the API's own word
    """Admission takes the object not now: a quota, a policy, a webhook that can't be reached."""


class Conflict(ApiError):  # noqa: N818 - the API's own word
    """The object changed meanwhile, or is another one (uid)."""


def _undecoded(status: int, message: str) -> bool:
    """Whether it can't be read as its kind; of an apply, that is told as the API server's fault."""
    unread = {400: " cannot be handled as a ", 500: "failed to create typed patch object "}
    return status in unread and unread[status] in message


def refusal(status: int, body: bytes, call: str) -> ApiError:
    """Return what a refused call raises, by the API server's answer to it."""
    try:
        answer = json.loads(body)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        causes = (answer.get("details") or {}).get("causes") or ()
    except (ValueError, AttributeError):
        reason, message, causes = "", body[:500].decode(errors="replace"), ()
    return _error_class(status, reason, message, causes)(status, reason, message, call)


def _error_class(
    status: int, reason: str, message: str, causes: Sequence[Mapping[str, Any]]
) -> type[ApiError]:
    """Tell one refusal from another."""
    found: type[ApiError]
    # A webhook chooses the code of its refusal freely, and may name fields as well.
    webhook = "admission webhook " in message or "failed calling webhook " in message
    match status, reason:
        case 403, _ if any(c.get("reason") == "NamespaceTerminating" for c in causes):
            found = NamespaceTerminating
        case 422, _ if any(c.get("field") == "metadata.uid" for c in causes):
            found = Conflict  # said of a uid that is not the object's
        case _ if webhook:
            found = Denied
        case 409, "AlreadyExists":
            found = AlreadyExists
        case 409, _:
            found = Conflict
        case 404, _:
            found = NotFound
        # An admission policy's refusal has the same code and reason, but names no field.
        case 422, "Invalid" if any(c.get("field") for c in causes):
            found = Invalid
        case _ if _undecoded(status, message):
            found = Invalid
        case ((400 | 403 | 413 | 422), _):
            found = Denied
        case _:
            found = ApiError
    return found
