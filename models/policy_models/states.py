"""A state that a caller sends, judged by the declared schema: strict, unlike a row of data.

A row of training data is what somebody logged, so what cannot be read in it is missing. A caller
can still be told: a feature that is unknown, absent or of the wrong type is refused by name. What
is null is missing, as in training; a category that the training data did not have is served so too.
"""

from collections.abc import Mapping
from typing import Any

from policy_api.rules.nearest import hint
from policy_api.v1alpha1.recipes.features import FeatureType

from policy_models.decision import INVALID, Refusal, wants
from policy_models.features import LARGEST, Column, Encoder, is_missing, values_of


def refusal(encoder: Encoder, state: Mapping[str, Any] | None) -> Refusal | None:
    """Say what is wrong with a state, or None."""
    if state is None:
        return wants("state, an object of features")
    known = {column.name: column for column in encoder.columns}
    return unknown(state, known) or next(
        (found for column in encoder.columns if (found := _cell(column, state)) is not None), None
    )


def unknown(state: Mapping[str, Any], known: Mapping[str, Any]) -> Refusal | None:
    """Say which name of a state is not known, or None."""
    for name in state:
        if name not in known:
            near = hint(name, known) or f": it has {', '.join(known)}"
            return Refusal(INVALID, f"state.{name} is not a feature of this policy{near}")
    return None


def number(name: str, value: Any) -> Refusal | None:
    """Say what is wrong with a value that must be a number or null, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Refusal(INVALID, f"state.{name} must be a number or null")
    if not abs(value) < LARGEST:  # as NaN is
        return Refusal(INVALID, f"state.{name} must be a finite number below 1e30, or null")
    return None


def unseen(encoder: Encoder, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the features with a category that the training data did not have."""
    return tuple(
        column.name
        for column in encoder.columns
        if column.type is not FeatureType.NUMERIC
        and not set(values_of(state[column.name])) <= set(column.values)
    )


def _cell(column: Column, state: Mapping[str, Any]) -> Refusal | None:
    if column.name not in state:
        return Refusal(
            INVALID, f"state.{column.name} is missing: set it, to null where it is not known"
        )
    value = state[column.name]
    match column.type:
        case FeatureType.NUMERIC:
            return number(column.name, value)
        case FeatureType.LIST:
            cells = value if isinstance(value, list) else [value]
            wanted = "a list of strings or numbers"
        case FeatureType.CATEGORICAL:
            cells, wanted = [value], "a string, a number or a boolean"
    if all(is_missing(cell) or isinstance(cell, str | int | float) for cell in cells):
        return None
    return Refusal(INVALID, f"state.{column.name} must be {wanted}, or null")
