"""The API's CEL rules, judged here as the API server judges them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from policy_api.base import ApiModel

OLD = "oldSelf"  # in rules about a change


def broken(part: ApiModel, field: str = "spec") -> list[tuple[str, str]]:
    """Return (field, sentence) of every rule that a part of a resource breaks."""
    found = [
        (field, rule["message"])
        for rule in _rules(type(part))
        if OLD not in rule["rule"] and not _holds(rule["rule"], part.to_wire())
    ]
    for name, inner in _parts(part):
        found += broken(inner, f"{field}.{name}")
    return found


def _rules(model: type[ApiModel]) -> list[dict[str, str]]:
    extra: Any = model.model_config.get("json_schema_extra")
    found: list[dict[str, str]] = extra.get("x-kubernetes-validations", []) if extra else []
    return found


@cache
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def _holds(expression: str, value: dict[str, Any]) -> bool:
    return bool(_program(expression).evaluate({"self": json_to_cel(value)}))


def _parts(part: ApiModel) -> Iterator[tuple[str, ApiModel]]:
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        items = value if isinstance(value, list | tuple) else [value]
        for number, item in enumerate(items):
            if isinstance(item, ApiModel):
                place = f"[{number}]" if isinstance(value, list | tuple) else ""
                yield f"{field.alias}{place}", item
