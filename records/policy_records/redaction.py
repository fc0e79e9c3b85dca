"""Replaces what must not be kept by a keyed hash, before anything is written."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

ROOTS = ("state", "prompt", "candidates", "context", "answer", "nextState", "text")
"""What may hold what callers sent, by its name in the HTTP interface."""


class PointerInvalidError(ValueError):
    """It points at nothing that is kept; the message says what to write."""


class Redactor:
    """Replaces the values at some JSON pointers (RFC 6901); `*` is every entry or field.

    Equal values have equal hashes under one key, so that they can be counted and joined; without
    the key nobody can try values out.
    """

    def __init__(self, pointers: Sequence[str], key: bytes) -> None:
        self._paths = [_path(pointer) for pointer in pointers]
        self._key = key

    def __bool__(self) -> bool:
        return bool(self._paths)

    def apply(self, name: str, value: Any) -> Any:
        """Return a value without what must not be kept.

        Args:
            name: One of ROOTS.
            value: JSON; it is not changed.
        """
        for path in self._paths:
            if path[0] == name and value is not None:
                value = self._replaced(value, path[1:])
        return value

    def _replaced(self, value: Any, path: Sequence[str]) -> Any:
        if not path:
            return self._hash(value)
        head, rest = path[0], path[1:]
        if isinstance(value, Mapping):
            wanted = value.keys() if head == "*" else {head} & value.keys()
            return {
                key: self._replaced(item, rest) if key in wanted else item
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self._replaced(item, rest) if head in {"*", str(index)} else item
                for index, item in enumerate(value)
            ]
        return value

    def _hash(self, value: Any) -> str | None:
        if value is None:
            return None  # that it is missing says nothing of a person
        plain = json.dumps(value, sort_keys=True, default=str).encode()
        return f"redacted:{hmac.new(self._key, plain, hashlib.sha256).hexdigest()[:32]}"


def _path(pointer: str) -> list[str]:
    """Split a pointer.

    Raises:
        PointerInvalidError: It is none, or its root is not kept.
    """
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if not pointer.startswith("/") or not parts or parts[0] not in ROOTS:
        raise PointerInvalidError(
            f"redact: {pointer!r} must be a JSON pointer that starts with one of "
            f"{', '.join(f'/{root}' for root in ROOTS)}"
        )
    return parts
