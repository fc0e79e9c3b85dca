"""From a user's own request to one of the server's calls, and back: pure.

Fields are moved and never judged: that is the call's. What the call then says of one of its fields
is said of the user's.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policy_api.v1alpha1.routes import Call, QueryType, RequestField, Route
from policy_models.pointers import MissingError, at, put, steps

_SUBJECTS = ("state", "prompt", "messages", "candidates")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_NOTHING = object()
_WANTED = {
    QueryType.BOOLEAN: "true or false",
    QueryType.INTEGER: "a whole number",
    QueryType.NUMBER: "a number",
}

Query = Mapping[str, Sequence[str]]
"""By name: the texts that were sent for it, as urllib.parse.parse_qs returns them."""


class UnmappableError(Exception):
    """The request is no request of this route; the message says what to change."""


def call_of(route: Route, body: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """Return the call's body.

    Args:
        route: Says what comes from where.
        body: What was sent.
        query: The query's parameters.

    Raises:
        UnmappableError: A field is unknown, or has no place in the call.
    """
    made: dict[str, Any] = copy.deepcopy(route.defaults or {})
    if route.request is None:
        return made | dict(body)
    named = [steps(field.source) for field in route.request if field.source is not None]
    for strange in _unknown(body, (), named):
        raise UnmappableError(f"{'.'.join(strange)} is not a known field: remove it")
    for field in route.request:
        value = _value(field, body, query)
        if value is _NOTHING:
            continue
        try:
            put(made, field.to, value)
        except MissingError:
            owner = ".".join(steps(field.to)[:-1])
            raise UnmappableError(f"{renamed(route, owner)} must be an object") from None
    if route.to in {Call.DECISIONS, Call.SCORES} and not made.keys() & set(_SUBJECTS):
        _want_subject(route)
    return made


def path_of(route: Route, made: dict[str, Any]) -> str:
    """Return the path of the call; the decision that it names is taken out of its body.

    Raises:
        UnmappableError: It names none.
    """
    if "{id}" not in route.to:
        return route.to
    found, name = made.pop("id", None), renamed(route, "id")
    if found is None:
        raise UnmappableError(f"{name} is missing: set it to the decision's id")
    if not isinstance(found, str) or not found or "/" in found:
        raise UnmappableError(f"{name} must be the decision's id, a string")
    return route.to.replace("{id}", found)


def answer_of(route: Route, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is answered; that the second policy has no answer is said in any case."""
    if route.response is None:
        return dict(answer)
    made: dict[str, Any] = {}
    for field in route.response:
        try:
            put(made, field.to, at(answer, field.source))
        except MissingError:
            continue  # an action in mode Advisor, a second answer that there is none of
    error = (answer.get("then") or {}).get("error")
    return made if error is None else {"then": {"error": error}, **made}


def renamed(route: Route, sentence: str) -> str:
    """Return a sentence about fields of the call with the user's names for them."""
    names = {".".join(steps(field.to)): _name(field) for field in route.request or ()}
    if not names:
        return sentence
    longest = sorted(names, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest)

    def name(found: re.Match[str]) -> str:
        own, inside = names[found[1]], found[2] or ""
        if own:
            return own + inside
        return inside.removeprefix(".") or "the body"

    return re.sub(rf"(?<![\w.])({pattern})(?!\w)(\.\w[\w.]*\w|\.\w)?", name, sentence)


def _name(field: RequestField) -> str:
    if field.source is None:
        return f"the query's {field.query}"
    return ".".join(steps(field.source))


def _unknown(
    value: Any, place: tuple[str, ...], named: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield the places in a body that no field of the route names, nor what is around them."""
    if place in named:
        return
    if place and not any(name[: len(place)] == place for name in named):
        yield place
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unknown(inner, (*place, key), named)


def _value(field: RequestField, body: Mapping[str, Any], query: Query) -> Any:
    value: Any
    if field.source is not None:
        try:
            value = at(body, field.source)
        except MissingError:
            return _NOTHING
    elif field.query is not None and field.query in query:
        texts = query[field.query]
        if len(texts) > 1:
            raise UnmappableError(f"{_name(field)} is there {len(texts)} times: send it once")
        value = _typed(field, texts[0])
    else:
        return _NOTHING
    return copy.deepcopy(value)  # two fields may take the same, and a third goes inside of one


def _typed(field: RequestField, text: str) -> Any:
    """Return a query's text as what it stands for."""
    match field.type:
        case QueryType.BOOLEAN if text in {"true", "false"}:
            return text == "true"
        case QueryType.INTEGER if _INTEGER.fullmatch(text):
            return int(text)
        case QueryType.NUMBER if _NUMBER.fullmatch(text):
            return float(text)
        case QueryType.STRING | None:
            return text
        case _:
            pass
    raise UnmappableError(f"{_name(field)} must be {_WANTED[field.type]}")


def _want_subject(route: Route) -> None:
    """Raise if the route names what is asked and the request has nothing of it."""
    names = [
        _name(field) or "the body"
        for field in route.request or ()
        if steps(field.to)[0] in _SUBJECTS
    ]
    if len(names) == 1:
        raise UnmappableError(f"{names[0]} is missing: set it")
    if names:
        raise UnmappableError(f"set one of {', '.join(names)}")
