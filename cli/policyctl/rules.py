"""The API's rules between fields, judged here as the API server judges them."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from policy_api.base import ApiModel, new_object_rule
from policy_api.rules.quantity import is_quantity
from policy_api.v1alpha1.compute import Compute
from policy_api.v1alpha1.names import Names
from policy_api.v1alpha1.resources import RESOURCE_PARTS

OLD = "oldSelf"  # in rules about a change


def broken(part: ApiModel, field: str = "spec") -> list[tuple[str, str]]:
    """Return (field, sentence) of every rule that a part of a resource breaks."""
    found = [
        (field, rule["message"])
        for rule in _rules(type(part))
        if OLD not in rule["rule"] and not _holds(rule["rule"], part.to_wire())
    ]
    found += list(_repeated(part, field))
    if isinstance(part, Compute):
        found += list(_no_quantities(part, field))
    for name, inner in _parts(part):
        found += broken(inner, f"{field}.{name}")
    return found


def broken_names(names: Names, name: str, spec: ApiModel) -> list[tuple[str, str]]:
    """Return (field, sentence) of every rule about names that a new object breaks."""
    if len(name) > names.limit:
        return [("metadata.name", f"Too long: may not be more than {names.limit} bytes")]
    value = {"metadata": {"name": name}, "spec": spec.to_wire()}
    return [
        (rule["fieldPath"].removeprefix("."), rule["message"])
        for rule in names.rules
        if not _holds(new_object_rule(rule), value)
    ]


def _repeated(part: ApiModel, field: str) -> Iterator[tuple[str, str]]:
    """Yield entries of lists that must differ, by their names or whole, and do not."""
    wire = part.to_wire()
    for info in type(part).model_fields.values():
        extra: Any = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        entries = wire.get(str(info.alias), []) if "x-kubernetes-list-type" in extra else []
        keys = extra.get("x-kubernetes-list-map-keys")
        names = [
            entry if keys is None else {key: entry[key] for key in keys if key in entry}
            for entry in entries
        ]
        for number, same in enumerate(names):
            if same in names[:number]:
                shown = json.dumps(same, separators=(",", ":"))
                yield f"{field}.{info.alias}[{number}]", f"Duplicate value: {shown}"


def _no_quantities(compute: Compute, field: str) -> Iterator[tuple[str, str]]:
    """Yield what is written in place of a quantity."""
    for part in RESOURCE_PARTS:
        for name, value in ((compute.resources or {}).get(part) or {}).items():
            if not is_quantity(value):
                shown = json.dumps(value)
                said = f"{shown} is no quantity such as 500m, 2, 4Gi or, in quotes, '1.5'"
                yield f"{field}.resources.{part}.{name}", said


def _rules(model: type[ApiModel]) -> list[dict[str, str]]:
    extra: Any = model.model_config.get("json_schema_extra")
    found: list[dict[str, str]] = extra.get("x-kubernetes-validations", []) if extra else []
    return found


def _is_sorted(values: celtypes.ListType) -> celtypes.BoolType:
    return celtypes.BoolType(all(first <= then for first, then in pairwise(values)))


# What the API server's CEL has beyond the language, as far as our rules use it.
KUBERNETES = {"isSorted": _is_sorted}


@cache
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression), functions=KUBERNETES)


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
