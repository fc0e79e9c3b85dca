"""Columns of rows learned: which there are, what they hold, how numbers are scaled."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from policy_api.v1alpha1.recipes.features import Feature, FeatureType
from policy_models.features import Column, Encoder, Row, is_missing, number_of, values_of

from policy_trainer.errors import ConfigInvalidError, DataInvalidError

MOST_VALUES = 256  # of a categorical column; one with more names rows rather than kinds of them
LEAST = 1e-30  # deviation that can be scaled

Numbers = Any  # numpy.ndarray


def learn(
    rows: Sequence[Row],
    features: Sequence[Feature],
    leave_out: Sequence[str],
    field: str,
    most_values: int = MOST_VALUES,
) -> Encoder:
    """Learn an encoder from rows.

    Args:
        rows: The training data.
        features: Declared columns; none: every column of the first row that is not left out.
        leave_out: Columns that are no features.
        field: The block in the manifest, for messages.
        most_values: Of a categorical or list column.

    Raises:
        ConfigInvalidError: a declared column is not in the data.
        DataInvalidError: a column has too many values, or is always missing.
    """
    for feature in features:
        if not any(feature.name in row for row in rows):
            raise ConfigInvalidError(
                f"the data has no column {feature.name!r}; it has {', '.join(sorted(rows[0]))}",
                field=f"{field}.features",
            )
    declared = [(feature.name, feature.type) for feature in features]
    names = dict.fromkeys(name for row in rows for name in row if name not in set(leave_out))
    if not declared and not names:
        raise DataInvalidError("data[train] has no columns to learn from", field="data[train]")
    chosen = declared or [(name, _type([row.get(name) for row in rows])) for name in names]
    return Encoder(
        tuple(
            _column(n, type_, [r.get(n) for r in rows], field, most_values) for n, type_ in chosen
        )
    )


def grown(before: Encoder, now: Encoder) -> Encoder:
    """Return an encoder for both: what `before` knew keeps its meaning, what is new is added.

    A number is scaled as before, so weights that were learned on it still fit.

    Raises:
        DataInvalidError: a column is no longer of its type.
    """
    known = {column.name: column for column in before.columns}
    new = {column.name: column for column in now.columns}
    for name in known.keys() & new.keys():
        if known[name].type is not new[name].type:
            raise DataInvalidError(
                f"column {name!r} was {known[name].type} in the base and is {new[name].type} now",
                field=f"data column {name}",
            )
    kept = [
        replace(c, values=tuple(dict.fromkeys([*c.values, *new[c.name].values])))
        if c.name in new
        else c
        for c in before.columns
    ]
    return Encoder((*kept, *(column for name, column in new.items() if name not in known)))


def _column(
    name: str, type_: FeatureType, cells: Sequence[Any], field: str, most_values: int
) -> Column:
    if type_ is FeatureType.NUMERIC:
        numbers = np.array([number_of(cell) for cell in cells], dtype=float)
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            raise DataInvalidError(
                f"column {name!r} has no number: list it in {field}.forbidden",
                f"data column {name}",
            )
        return Column(name, type_, mean=float(known.mean()), scale=_scale(known))
    values = tuple(sorted({value for cell in cells for value in values_of(cell)}))
    if len(values) > most_values:
        raise DataInvalidError(
            f"column {name!r} has {len(values)} values in {len(cells)} rows, at most {most_values} "
            f"are kinds of rows and not names of them: list it in {field}.forbidden",
            f"data column {name}",
        )
    return Column(name, type_, values)


def _scale(known: Numbers) -> float:
    deviation = float(known.std())
    return deviation if deviation > LEAST else 1.0


def _type(cells: Sequence[Any]) -> FeatureType:
    known = [cell for cell in cells if not is_missing(cell)]
    if any(isinstance(cell, list) for cell in known):
        return FeatureType.LIST
    if all(not isinstance(cell, bool) and not math.isnan(number_of(cell)) for cell in known):
        return FeatureType.NUMERIC
    return FeatureType.CATEGORICAL
