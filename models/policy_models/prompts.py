"""What a text policy is asked where rows and callers have objects: training and serving. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from policy_models.pointers import MissingError, at

_PLACE = re.compile(r"\{([A-Za-z_][\w~./-]*)\}")  # other braces are text, as those of JSON are


class UnfilledError(Exception):
    """A template has a place for what is not there; the message names it."""


def of_object(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return an object, or a list, as JSON with sorted keys: the same text whoever writes it."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def places(template: str) -> tuple[str, ...]:
    """Return the names of a template's places: action, ranking/0/score."""
    return tuple(_PLACE.findall(template))


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Return a template with what its places name: texts as they are, all else as JSON.

    Args:
        template: Its places are JSON pointers without their first slash: {ranking/0/score}.
        values: What they point into.

    Raises:
        UnfilledError: One of them is not there, is null, or can't be written.
    """

    def text(place: re.Match[str]) -> str:
        try:
            value = at(values, f"/{place[1]}")
        except MissingError:
            value = None
        if value is None:
            raise UnfilledError(place[1])
        try:
            return value if isinstance(value, str) else of_object(value)
        except RecursionError:
            raise UnfilledError(f"{place[1]} that is nested less deeply") from None

    return _PLACE.sub(text, template)
