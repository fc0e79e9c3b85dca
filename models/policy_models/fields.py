"""What an answer says: its declared fields, read from its text or from its JSON. Pure."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_api.v1alpha1.answers import AnswerField, EntryField, FieldType

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_WANTED = {
    FieldType.STRING: "a text",
    FieldType.NUMBER: "a number",
    FieldType.INTEGER: "a whole number",
    FieldType.BOOLEAN: "true or false",
    FieldType.OBJECT: "an object",
    FieldType.ARRAY: "a list",
}


@dataclass(frozen=True)
class Violation:
    """What is wrong with an answer, as one sentence that does not quote it."""

    message: str
    unsafe: bool = False
    """Whether it says what must never be said."""


class _Missing(Exception):  # noqa: N818 - it never leaves this file
    """A pointer leads nowhere."""


class Reader:
    """Reads the declared fields of answers; its patterns are compiled once.

    Raises:
        re.error: A pattern is no regular expression.
    """

    def __init__(self, fields: Sequence[AnswerField]) -> None:
        self._fields = fields
        self._patterns = {
            field.name: re.compile(field.pattern) for field in fields if field.pattern is not None
        }
        self._parsed = any(field.pointer is not None for field in fields)

    def read(self, answer: str) -> dict[str, Any] | Violation:
        """Return the value of each field, or what is wrong."""
        document: Any = None
        if self._parsed:
            try:
                document = json.loads(answer, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                return Violation("the answer is not JSON, into which its fields point")
        found: dict[str, Any] = {}
        for field in self._fields:
            value = self._value(field, answer, document)
            if isinstance(value, Violation):
                return value
            found[field.name] = value
        return found

    def _value(self, field: AnswerField, answer: str, document: Any) -> Any:
        if field.pointer is None:
            match = self._patterns[field.name].search(answer)
            if match is None or match[1] is None:
                return Violation(f"the answer has no {field.name}: its pattern is not found")
            return _judged(field, _converted(field.type, match[1]), field.name)
        try:
            value = at(document, field.pointer)
        except _Missing:
            return Violation(f"the answer has no {field.name}: there is no {field.pointer}")
        value = _judged(field, value, field.name)
        if isinstance(value, Violation) or field.items is None:
            return value
        entries: list[dict[str, Any]] = []
        for place, entry in enumerate(value):
            read = _entry(field.items, entry, f"{field.name}[{place}]")
            if isinstance(read, Violation):
                return read
            entries.append(read)
        return entries


def at(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) leads to.

    Raises:
        _Missing: Nothing.
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            raise _Missing
    return document


def _entry(fields: Sequence[EntryField], entry: Any, where: str) -> dict[str, Any] | Violation:
    found: dict[str, Any] = {}
    for field in fields:
        try:
            value = at(entry, field.pointer)
        except _Missing:
            return Violation(f"the answer has no {field.name} in {where}")
        value = _judged(field, value, f"{where}.{field.name}")
        if isinstance(value, Violation):
            return value
        found[field.name] = value
    return found


def _judged(field: AnswerField | EntryField, value: Any, where: str) -> Any:
    """Return a value as its type has it, if it is of that type and within its bounds."""
    if not _is(field.type, value):
        return Violation(f"the answer's {where} is not {_WANTED[field.type]}")
    if field.min is not None and value < field.min:
        return Violation(f"the answer's {where} is below {field.min:g}")
    if field.max is not None and value > field.max:
        return Violation(f"the answer's {where} is above {field.max:g}")
    return int(value) if field.type is FieldType.INTEGER else value


def _is(wanted: FieldType, value: Any) -> bool:
    match wanted:
        case FieldType.STRING:
            return isinstance(value, str)
        case FieldType.BOOLEAN:
            return isinstance(value, bool)
        case FieldType.OBJECT:
            return isinstance(value, Mapping)
        case FieldType.ARRAY:
            return isinstance(value, list)
        case FieldType.NUMBER:
            return _number(value)
        case FieldType.INTEGER:  # 3.0 is a whole number, as in JSON Schema
            return _number(value) and (isinstance(value, int) or value.is_integer())


def _number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _converted(wanted: FieldType, text: str) -> Any:
    """Return what a pattern found as the type that is wanted, or the text where it is none."""
    match wanted:
        case FieldType.INTEGER if _INTEGER.fullmatch(text):
            return int(text)
        case FieldType.NUMBER if _NUMBER.fullmatch(text):
            return float(text)
        case FieldType.BOOLEAN if text.lower() in {"true", "false"}:
            return text.lower() == "true"
    return text


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(name)
