"""Reads JSON that callers wrote: what has two meanings, or none, is refused. Pure."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

DEEPEST = 64  # nested objects and lists; what is asked has four
_LONGEST = 60  # characters of a field's name that are quoted
_SHORT_INTEGER = 300  # digits: a double has as many


class NotJSONError(ValueError):
    """It can't be taken; the message is one sentence that says what to change."""


def parse(raw: bytes | str, what: str) -> Any:
    """Return what JSON says.

    Args:
        raw: UTF-8, or text.
        what: The words for it in a sentence, as `the body`.

    Raises:
        NotJSONError: It is no JSON, or has NaN, a number that no double holds, a field twice, half
            of a surrogate pair, or more than DEEPEST levels.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        found = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError:
        raise NotJSONError(f"{what} is not JSON: send UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise NotJSONError(f"{what} is not JSON: {error.msg}") from None
    except RecursionError:
        raise NotJSONError(_DEEP.format(what)) from None
    except _Odd as odd:
        raise NotJSONError(f"{what} has {odd}") from None
    # Neither can be where there are no such letters, which most requests do not have.
    if "\\u" in text or text.count("{") + text.count("[") > DEEPEST:
        _check(found, what)
    return found


_DEEP = f"{{}} is nested more than {DEEPEST} levels deep: send flatter JSON"


class _Odd(Exception):  # noqa: N818 - it never leaves this file
    """What JSON's grammar allows, or Python's reader takes, and we don't."""


def _constant(name: str) -> Any:
    raise _Odd(f"{name}, which is not JSON: send null where a number is not known")


def _float(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise _Odd("a number above 1.8e308: send a smaller one")
    return found


def _int(text: str) -> int:
    if len(text) > _SHORT_INTEGER:
        _float(text)
    return int(text)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        shown = twice[:_LONGEST].encode("ascii", "backslashreplace").decode()
        raise _Odd(f"the field {shown!r} twice: send it once")
    return found


def _check(value: Any, what: str) -> None:
    """Look at every level and every text."""
    level, depth = [value], 0
    while level:
        for text in _texts(level):
            try:
                text.encode()
            except UnicodeEncodeError:
                message = f"{what} has half of a surrogate pair: send whole characters"
                raise NotJSONError(message) from None
        outer = [one for one in level if isinstance(one, dict | list)]
        if outer and depth == DEEPEST:
            raise NotJSONError(_DEEP.format(what))
        level = [
            inner for one in outer for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1


def _texts(level: Sequence[Any]) -> Iterator[str]:
    for value in level:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
