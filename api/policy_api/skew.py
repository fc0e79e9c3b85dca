"""Reading what another version of our programs wrote: nothing is refused because it is new.

An upgrade or its way back runs programs of two versions side by side: an operator with a newer
CRD, a trainer image with an older operator. Whoever reads what another program wrote reads it
here. Only policyctl, which checks what a person has typed, refuses what it does not know.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import TypeAdapter, ValidationError

from policy_api import __version__
from policy_api.base import ApiModel

Model = TypeVar("Model", bound=ApiModel)
Wire = Mapping[str, Any]
_LIST_KEYS = "x-kubernetes-list-map-keys"
# Faults of a value whose meaning is known: its version of the CRD has another limit than ours.
_BOUNDS = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "string_pattern_mismatch",
    "string_too_long",
    "string_too_short",
    "too_long",
    "too_short",
}


@dataclass(frozen=True)
class _Known:
    """A field that this version knows."""

    model: type[ApiModel] | None
    """The shape of its value, or of each of its items."""
    keys: tuple[str, ...]
    """By which fields its items are told apart."""


def _model(annotation: Any) -> type[ApiModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return annotation
    found = (_model(inner) for inner in get_args(annotation))
    return next((f for f in found if f is not None), None)


@cache
def _known(model: type[ApiModel]) -> dict[str, _Known]:
    """Return the fields of a model by their names on the wire."""
    found = {}
    for field in model.model_fields.values():
        extra = field.json_schema_extra
        keys = extra.get(_LIST_KEYS, ()) if isinstance(extra, dict) else ()
        names = tuple(str(k) for k in keys) if isinstance(keys, list) else ()
        found[str(field.alias)] = _Known(_model(field.annotation), names)
    return found


def read(model: type[Model], wire: Wire) -> Model:
    """Read an object of the API server, whatever version of the CRD or the operator made it.

    Fields that this version does not know are left out. A word that it does not know is as if the
    field were unset; where it must be set it is kept as it is, as is what exceeds our limits.
    """
    try:
        return model.model_validate(wire, extra="ignore")
    except ValidationError:
        return _fit(model, wire)


def examine(
    model: type[Model], wire: Wire, place: str, *, bounds: bool = True
) -> tuple[Model, str | None]:
    """Read an object, and name the first thing in it that this version does not know.

    Args:
        model: The shape as this version knows it.
        wire: What the API server has.
        place: What to call its root, e.g. `spec`.
        bounds: Whether a value beyond our limits counts as well.

    Returns:
        What `read` returns, and the path of a field, with its value where the field is known; None
        when everything is.
    """
    with suppress(ValidationError):
        return model.model_validate(wire), None  # as nearly always
    strange = unknown_field(model, wire, place)
    try:
        return model.model_validate(wire, extra="ignore"), strange
    except ValidationError as error:
        return _fit(model, wire), strange or _misfit(error, place, bounds=bounds)


def _misfit(error: ValidationError, place: str, *, bounds: bool) -> str | None:
    faults = (f for f in error.errors(include_url=False) if bounds or f["type"] not in _BOUNDS)
    fault = next(faults, None)
    if fault is None:
        return None
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in fault["loc"])
    said = fault["input"]
    return f"{place}{where}" + (f" {said!r}" if isinstance(said, str | int | float) else "")


def _fit(model: type[Model], wire: Wire) -> Model:
    values = {}
    for name, field in model.model_fields.items():
        if field.alias in wire:
            values[name] = _fit_field(model, name, wire[str(field.alias)])
        elif field.is_required():
            values[name] = None
    return cast(Model, model.model_construct(**values))


@cache
def _reader(model: type[ApiModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    shape: Any = field.annotation
    return TypeAdapter(Annotated[shape, *field.metadata] if field.metadata else shape)


def _fit_field(model: type[ApiModel], name: str, value: Any) -> Any:
    field = model.model_fields[name]
    try:
        return _reader(model, name).validate_python(value, extra="ignore")
    except ValidationError as error:
        inner = _model(field.annotation)
        if inner is None and _misfit(error, "", bounds=False) is None:
            return value
    if inner is not None and isinstance(value, Mapping):
        return _fit(inner, value)
    if inner is not None and isinstance(value, list):
        return [_fit(inner, item) for item in value if isinstance(item, Mapping)]
    return value if field.is_required() else field.get_default(call_default_factory=True)


def waits(found: str) -> str:
    """Say what to do about something that `examine` has found in a spec."""
    return (
        f"{found} is unknown to this operator (version {__version__}): upgrade the operator, or "
        "remove it"
    )


def unknown_field(model: type[ApiModel], wire: Wire, place: str) -> str | None:
    """Return the path of the first field that this version does not know, or None."""
    known = _known(model)
    for key, value in wire.items():
        if value is None:
            continue
        path = f"{place}.{key}" if place else key
        field = known.get(key)
        if field is None:
            return path
        if field.model is None:
            continue
        items = [(path, value)] if isinstance(value, Mapping) else []
        if isinstance(value, list):
            items = [(f"{path}[{i}]", v) for i, v in enumerate(value) if isinstance(v, Mapping)]
        for where, item in items:
            if (found := unknown_field(field.model, item, where)) is not None:
                return found
    return None


def carried(old: Wire | None, new: ApiModel) -> dict[str, Any]:
    """Return a status as it is to be written: with the fields that a newer operator has put there.

    They belong to parts that still are: what `new` has dropped is gone with all that was in it.

    Args:
        old: The status as the API server has it.
        new: The status as this version would have it.
    """
    return _carried(type(new), old or {}, new.to_wire())


def _carried(model: type[ApiModel], old: Wire, new: Wire) -> dict[str, Any]:
    known, made = _known(model), dict(new)
    for key, value in old.items():
        field = known.get(key)
        if field is None:
            made[key] = value
        elif field.model is not None and key in new:
            made[key] = _carried_value(field.model, field.keys, value, new[key])
    return made


def _carried_value(model: type[ApiModel], keys: Sequence[str], old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _carried(model, old, new)
    if not isinstance(old, list) or not isinstance(new, list):
        return new
    more = [o for o in old if isinstance(o, Mapping) and unknown_field(model, o, "") is not None]
    if not more:
        return new
    made = []
    for item in new:
        match = next((o for o in more if _same(model, keys, o, item)), None)
        made.append(item if match is None else _carried(model, match, item))
    return made


def _same(model: type[ApiModel], keys: Sequence[str], old: Wire, new: Wire) -> bool:
    """Whether two items of a list are one: by its keys, or else by all that this version knows."""
    if keys:
        return all(old.get(k) == new.get(k) for k in keys)
    return read(model, old).to_wire() == dict(new)
