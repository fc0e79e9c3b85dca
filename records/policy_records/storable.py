"""Makes any value that JSON can carry one that both databases can keep."""

import json
import math
from collections.abc import Mapping
from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ODD = ("\\u0000", "\\ud")  # how JSON writes NUL, and halves of surrogate pairs


def text(value: str) -> str:
    """Return a text without what PostgreSQL refuses: NUL, and halves of surrogate pairs."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", _REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def storable(value: Any) -> Any:
    """Return a JSON value as both databases keep it; a number that is none becomes a text."""
    match value:
        case str():
            return text(value)
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {text(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value


def json_text(value: Any) -> str:
    """Return `storable` as JSON, without a look at each part where there is nothing to do."""
    try:
        written = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        written = None
    if written is None or any(odd in written for odd in _ODD):
        return json.dumps(storable(value))
    return written
