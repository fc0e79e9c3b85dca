"""Turns pydantic's findings on a request into one sentence that says what to change."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from policy_models.decision import INVALID, TOO_LONG, Refusal


class Complaint(NamedTuple):
    """What a caller is told."""

    status: int  # HTTP, 4xx
    code: str
    message: str  # a template over `where` and the finding's context


_SHAPE = 422, INVALID
# By pydantic's error type. None of them quotes the input, which may be a person's text.
_TABLE = {
    "json_invalid": Complaint(400, "NotJSON", "the body is not JSON: {error}"),
    "missing": Complaint(*_SHAPE, "{where} is missing: set it"),
    "extra_forbidden": Complaint(*_SHAPE, "{where} is not a known field: remove it"),
    "value_error": Complaint(*_SHAPE, "{error}"),
    "literal_error": Complaint(*_SHAPE, "{where} must be {expected}"),
    "string_type": Complaint(*_SHAPE, "{where} must be a string"),
    "string_pattern_mismatch": Complaint(*_SHAPE, "{where} must match {pattern}"),
    "dict_type": Complaint(*_SHAPE, "{where} must be an object"),
    "int_type": Complaint(*_SHAPE, "{where} must be a whole number"),
    "bool_type": Complaint(*_SHAPE, "{where} must be true or false"),
    "greater_than_equal": Complaint(*_SHAPE, "{where} must be at least {ge}"),
    "less_than_equal": Complaint(*_SHAPE, "{where} must be at most {le}"),
    "list_type": Complaint(*_SHAPE, "{where} must be a list"),
    "model_attributes_type": Complaint(*_SHAPE, "{where} must be an object"),
    "model_type": Complaint(*_SHAPE, "{where} must be an object"),
    "string_too_short": Complaint(*_SHAPE, "{where} must not be empty"),
    "too_short": Complaint(*_SHAPE, "{where} must not be empty"),
    "too_long": Complaint(*_SHAPE, "{where} has more than {max_length} entries: send fewer"),
    "string_too_long": Complaint(
        413, TOO_LONG, "{where} has more than {max_length} characters: shorten it"
    ),
}


def status_of(refusal: Refusal) -> int:
    """Return the HTTP status of what the model can't be asked."""
    return 413 if refusal.code == TOO_LONG else 422


def complaint(finding: Mapping[str, Any]) -> Complaint:
    """Return what to say about one entry of a validation error's `errors()`."""
    where = _path(finding["loc"])
    found = _TABLE.get(finding["type"])
    if found is None:
        return Complaint(*_SHAPE, f"{where}: {finding['msg']}")
    values = {"where": where, **finding.get("ctx", {})}
    return found._replace(message=found.message.format_map(values))


def _path(location: tuple[str | int, ...]) -> str:
    """Write a location as a person would: messages[0].role."""
    text = ""
    for part in location[1:]:  # the first is `body`
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the body"
