"""Turns pydantic's findings on a request into one sentence that says what to change. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from policy_models.decision import INVALID, TOO_LONG, Refusal

NOT_JSON = "NotJSON"

# By pydantic's error type: a template over `where` and the finding's context. None of them quotes
# the input, which may be a person's text.
_TABLE = {
    "json_invalid": Refusal(NOT_JSON, "the body is not JSON: {error}"),
    "missing": Refusal(INVALID, "{where} is missing: set it"),
    "extra_forbidden": Refusal(INVALID, "{where} is not a known field: remove it"),
    "value_error": Refusal(INVALID, "{error}"),
    "literal_error": Refusal(INVALID, "{where} must be {expected}"),
    "string_type": Refusal(INVALID, "{where} must be a string"),
    "string_pattern_mismatch": Refusal(INVALID, "{where} must match {pattern}"),
    "dict_type": Refusal(INVALID, "{where} must be an object"),
    "int_type": Refusal(INVALID, "{where} must be a whole number"),
    "bool_type": Refusal(INVALID, "{where} must be true or false"),
    "greater_than_equal": Refusal(INVALID, "{where} must be at least {ge}"),
    "less_than_equal": Refusal(INVALID, "{where} must be at most {le}"),
    "list_type": Refusal(INVALID, "{where} must be a list"),
    "model_attributes_type": Refusal(INVALID, "{where} must be an object"),
    "model_type": Refusal(INVALID, "{where} must be an object"),
    "string_too_short": Refusal(INVALID, "{where} must not be empty"),
    "too_short": Refusal(INVALID, "{where} must not be empty"),
    "too_long": Refusal(INVALID, "{where} has more than {max_length} entries: send fewer"),
    "string_too_long": Refusal(
        TOO_LONG, "{where} has more than {max_length} characters: shorten it"
    ),
}


def complaint(finding: Mapping[str, Any], location: Sequence[str | int]) -> Refusal:
    """Return what to say about one entry of a validation error's `errors()`.

    Args:
        finding: The entry.
        location: Where it is, from the request's own fields on.
    """
    where = _path(location)
    found = _TABLE.get(finding["type"])
    if found is None:
        return Refusal(INVALID, f"{where}: {finding['msg']}")
    values = {"where": where, **finding.get("ctx", {})}
    return Refusal(found.code, found.message.format_map(values))


def _path(location: Sequence[str | int]) -> str:
    """Write a location as a person would: messages[0].role."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the body"
