"""What an answer of a text policy says: fields that are read from it, and their bounds."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from policy_api.base import ApiModel, list_map, rule, rules

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
POINTER = r"^(/([^~/]|~[01])*)*$"  # RFC 6901
ITEM_ID = "id"  # what the server adds to each entry of an array

_BOUNDS = (
    rule(
        "(!has(self.min) && !has(self.max)) || self.type == 'Number' || self.type == 'Integer'",
        "min and max are for type Number and Integer",
    ),
    rule(
        "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
        "min must not be above max",
    ),
)


class FieldType(StrEnum):
    """What a field of an answer is."""

    STRING = "String"
    NUMBER = "Number"
    INTEGER = "Integer"
    BOOLEAN = "Boolean"
    OBJECT = "Object"
    ARRAY = "Array"


Scalar = Literal[FieldType.STRING, FieldType.NUMBER, FieldType.INTEGER, FieldType.BOOLEAN]


class _Bounded(ApiModel):
    """What fields of an answer and of its entries share."""

    name: str = Field(
        pattern=NAME, max_length=63, description="Name under which responses carry it."
    )
    min: float | None = Field(default=None, description="Least valid number.")
    max: float | None = Field(default=None, description="Greatest valid number.")


class EntryField(_Bounded):
    """A field of each entry of an array."""

    model_config = rules(
        *_BOUNDS,
        rule(
            f"self.name != '{ITEM_ID}'",
            f"{ITEM_ID} is the name that the server gives to each entry: name the field otherwise",
        ),
    )

    pointer: str = Field(
        min_length=1,
        max_length=256,
        pattern=POINTER,
        description="JSON pointer (RFC 6901) into the entry, e.g. /confidence.",
    )
    type: Scalar = Field(description="What it must be.")


class AnswerField(_Bounded):
    """A field that every valid answer has."""

    model_config = rules(
        *_BOUNDS,
        rule("has(self.pattern) != has(self.pointer)", "set exactly one of pattern and pointer"),
        rule(
            "!has(self.pattern) || self.pattern.contains('(')",
            "pattern needs one group: what it finds is the field's value",
        ),
        rule(
            "!has(self.pattern) || (self.type != 'Object' && self.type != 'Array')",
            "a pattern finds a text: type Object and Array need pointer",
        ),
        rule("!has(self.items) || self.type == 'Array'", "items is for type Array"),
    )

    pattern: str | None = Field(
        default=None,
        min_length=3,
        max_length=1024,
        description=(
            "A Python regular expression with exactly one group, which is the value where the "
            "expression is first found in the answer."
        ),
    )
    pointer: str | None = Field(
        default=None,
        max_length=256,
        pattern=POINTER,
        description=(
            "JSON pointer (RFC 6901) into the answer, which must then be JSON as a whole, e.g. "
            "/actions/0/type."
        ),
    )
    type: FieldType = Field(
        description="What it must be; what a pattern finds is read as that (true, false, 0.5)."
    )
    items: list[EntryField] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description=(
            "Fields of each entry of an Array. The response then has entries of these fields and "
            "an `id`, which names the entry in logs and feedback."
        ),
        json_schema_extra=list_map("name"),
    )
