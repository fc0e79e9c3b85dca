"""JSON pointers (RFC 6901): what they lead to, and what is put there. Pure."""

import re
from typing import Any

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


class MissingError(Exception):
    """A pointer leads nowhere."""


def steps(pointer: str) -> tuple[str, ...]:
    """Return the names and numbers that a pointer goes by."""
    return tuple(p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:])


def at(document: Any, pointer: str) -> Any:
    """Return what a pointer leads to.

    Raises:
        MissingError: Nothing.
    """
    for key in steps(pointer):
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            raise MissingError
    return document


def put(document: dict[str, Any], pointer: str, value: Any) -> None:
    """Put a value where a pointer leads; objects on its way are made where there are none.

    Args:
        document: It is changed, and so are objects in it.
        pointer: Of one step at least; a number is a name here.
        value: What to put.

    Raises:
        MissingError: Something on its way is no object.
    """
    *way, last = steps(pointer)
    for key in way:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise MissingError
    document[last] = value
