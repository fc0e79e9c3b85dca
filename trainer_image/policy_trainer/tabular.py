"""Columns of rows as numbers: what they hold, learned once, and how models see them.

A model sees either one code a column (trees), or standardised numbers and one column a value
(networks, linear models). What was not in the data that the encoder was learned from is missing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from policy_api.v1alpha1.recipes.features import Feature, FeatureType

from policy_trainer.data import Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError

MOST_VALUES = 256  # of a categorical column; one with more names rows rather than kinds of them
LARGEST, LEAST = 1e30, 1e-30  # numbers, and deviations, that can be scaled
FAR = 1e6  # deviations from the mean; further is as far

Numbers = Any  # numpy.ndarray


@dataclass(frozen=True)
class Column:
    """One column: a numeric one has a mean and a scale, the others their values."""

    name: str
    type: FeatureType
    values: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def dense_names(self) -> list[str]:
        """The columns that a network sees: a number and whether it is missing, or values."""
        if self.type is FeatureType.NUMERIC:
            return [self.name, f"{self.name} is missing"]
        return [f"{self.name}={value}" for value in self.values]

    @property
    def width(self) -> int:
        """How many those are."""
        return len(self.dense_names)

    def codes(self, cells: Sequence[Any]) -> Numbers:
        """Return one number a cell, or one a value of a list; NaN where it is missing."""
        if self.type is FeatureType.NUMERIC:
            return np.array([_number(cell) for cell in cells], dtype=np.float32)[:, None]
        if self.type is FeatureType.LIST:
            return self._hot(cells)
        place = {value: float(code) for code, value in enumerate(self.values)}
        found = [place.get(_text(cell), math.nan) for cell in cells]
        return np.array(found, dtype=np.float32)[:, None]

    def dense(self, cells: Sequence[Any]) -> Numbers:
        """Return `width` numbers a cell, none of them NaN."""
        if self.type is not FeatureType.NUMERIC:
            return self._hot(cells)
        found = np.array([_number(cell) for cell in cells], dtype=float)
        missing = np.isnan(found)
        scaled = np.where(missing, 0, np.clip((found - self.mean) / self.scale, -FAR, FAR))
        return np.stack([scaled, missing], axis=1).astype(np.float32)

    def _hot(self, cells: Sequence[Any]) -> Numbers:
        place = {value: code for code, value in enumerate(self.values)}
        found = np.zeros((len(cells), len(self.values)), dtype=np.float32)
        for row, cell in enumerate(cells):
            for value in _values(cell):
                if (code := place.get(value)) is not None:
                    found[row, code] = 1
        return found


@dataclass(frozen=True)
class Encoder:
    """All columns, in order."""

    columns: tuple[Column, ...]

    def codes(self, rows: Sequence[Row]) -> Numbers:
        """Return the matrix that trees see: float32 (rows, columns), NaN where it is missing."""
        return np.concatenate(
            [c.codes([r.get(c.name) for r in rows]) for c in self.columns], axis=1
        )

    def code_names(self) -> list[str]:
        """Return the names of those columns: a list's value is `column=value`."""
        return [name for column in self.columns for name in _names(column)]

    def code_types(self) -> list[str]:
        """Return their types as XGBoost names them: `c` categorical, `float` numeric."""
        return [
            "c" if column.type is FeatureType.CATEGORICAL else "float"
            for column in self.columns
            for _ in _names(column)
        ]

    def dense(self, rows: Sequence[Row]) -> Numbers:
        """Return the matrix that networks see: float32 (rows, width), standardised and one-hot."""
        return np.concatenate(
            [c.dense([r.get(c.name) for r in rows]) for c in self.columns], axis=1
        )

    def dense_names(self) -> list[str]:
        """Return the names of the columns of `dense`."""
        return [name for column in self.columns for name in column.dense_names]

    @property
    def width(self) -> int:
        """Columns of `dense`."""
        return sum(column.width for column in self.columns)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the feature schema of an artifact."""
        return [
            {"name": c.name, "type": c.type.value, "mean": c.mean, "scale": c.scale}
            if c.type is FeatureType.NUMERIC
            else {"name": c.name, "type": c.type.value, "values": list(c.values)}
            for c in self.columns
        ]

    @classmethod
    def from_json(cls, schema: Sequence[Mapping[str, Any]]) -> Self:
        """Read what `to_json` made."""
        return cls(
            tuple(
                Column(
                    entry["name"],
                    FeatureType(entry["type"]),
                    tuple(entry.get("values", ())),
                    float(entry.get("mean", 0)),
                    float(entry.get("scale", 1)),
                )
                for entry in schema
            )
        )


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
        numbers = np.array([_number(cell) for cell in cells], dtype=float)
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            raise DataInvalidError(
                f"column {name!r} has no number: list it in {field}.forbidden",
                f"data column {name}",
            )
        return Column(name, type_, mean=float(known.mean()), scale=_scale(known))
    values = tuple(sorted({value for cell in cells for value in _values(cell)}))
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
    known = [cell for cell in cells if not _missing(cell)]
    if any(isinstance(cell, list) for cell in known):
        return FeatureType.LIST
    if all(not isinstance(cell, bool) and not math.isnan(_number(cell)) for cell in known):
        return FeatureType.NUMERIC
    return FeatureType.CATEGORICAL


def _names(column: Column) -> list[str]:
    if column.type is FeatureType.LIST:
        return [f"{column.name}={value}" for value in column.values]
    return [column.name]


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any) -> float:
    """Return a cell's number; NaN when it has none, or one that float32 could not be scaled in."""
    try:
        found = float(cell)
    except (TypeError, ValueError):
        return math.nan
    return found if abs(found) < LARGEST else math.nan


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _values(cell: Any) -> list[str]:
    if _missing(cell):
        return []
    return [_text(part) for part in (cell if isinstance(cell, list) else [cell])]
