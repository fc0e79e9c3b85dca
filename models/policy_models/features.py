"""The declared schema: columns of rows as numbers, and how models see them.

A model sees either one code a column (trees), or standardised numbers and one column a value
(networks, linear models). What was not in the data that the encoder was learned from is missing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from policy_api.v1alpha1.recipes.features import FeatureType

LARGEST = 1e30  # number that can be scaled
FAR = 1e6  # deviations from the mean; further is as far

Row = Mapping[str, Any]
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

    @property
    def code_names(self) -> list[str]:
        """The columns that trees see: a list's value is `column=value`."""
        if self.type is FeatureType.LIST:
            return [f"{self.name}={value}" for value in self.values]
        return [self.name]

    def codes(self, cells: Sequence[Any]) -> Numbers:
        """Return one number a cell, or one a value of a list; NaN where it is missing."""
        if self.type is FeatureType.NUMERIC:
            return np.array([number_of(cell) for cell in cells], dtype=np.float32)[:, None]
        if self.type is FeatureType.LIST:
            return self._hot(cells)
        place = {value: float(code) for code, value in enumerate(self.values)}
        found = [place.get(_text(cell), math.nan) for cell in cells]
        return np.array(found, dtype=np.float32)[:, None]

    def dense(self, cells: Sequence[Any]) -> Numbers:
        """Return `width` numbers a cell, none of them NaN."""
        if self.type is not FeatureType.NUMERIC:
            return self._hot(cells)
        if len(cells) == 1:  # the same arithmetic, without ten calls of numpy
            number = number_of(cells[0])
            if math.isnan(number):
                return np.array([[0, 1]], dtype=np.float32)
            scaled = min(max((number - self.mean) / self.scale, -FAR), FAR)
            return np.array([[scaled, 0]], dtype=np.float32)
        found = np.array([number_of(cell) for cell in cells], dtype=float)
        missing = np.isnan(found)
        scaled = np.where(missing, 0, np.clip((found - self.mean) / self.scale, -FAR, FAR))
        return np.stack([scaled, missing], axis=1).astype(np.float32)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {value: code for code, value in enumerate(self.values)}

    def _hot(self, cells: Sequence[Any]) -> Numbers:
        place = self._places
        found = np.zeros((len(cells), len(self.values)), dtype=np.float32)
        for row, cell in enumerate(cells):
            for value in values_of(cell):
                if (code := place.get(value)) is not None:
                    found[row, code] = 1
        return found


@dataclass(frozen=True)
class Encoder:
    """All columns, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    def codes(self, rows: Sequence[Row]) -> Numbers:
        """Return the matrix that trees see: float32 (rows, columns), NaN where it is missing."""
        return np.concatenate(
            [c.codes([r.get(c.name) for r in rows]) for c in self.columns], axis=1
        )

    def code_names(self) -> list[str]:
        """Return the names of those columns."""
        return [name for column in self.columns for name in column.code_names]

    def code_types(self) -> list[str]:
        """Return their types as XGBoost names them: `c` categorical, `float` numeric."""
        return [
            "c" if column.type is FeatureType.CATEGORICAL else "float"
            for column in self.columns
            for _ in column.code_names
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


def is_missing(cell: Any) -> bool:
    """Whether a cell says nothing."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def number_of(cell: Any) -> float:
    """Return a cell's number; NaN when it has none, or one that float32 could not be scaled in."""
    try:
        found = float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if abs(found) < LARGEST else math.nan


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def values_of(cell: Any) -> list[str]:
    """Return what a cell of a categorical or list column holds."""
    if is_missing(cell):
        return []
    return [_text(part) for part in (cell if isinstance(cell, list) else [cell])]
