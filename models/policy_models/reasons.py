"""Why a policy ranks an option where it does: what each feature adds to its score. Numpy alone."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from policy_models.decision import Reason
from policy_models.features import Encoder

SHOWN = 3  # reasons of an option: more is no explanation
LEAST = 1e-9  # an effect that is one

Numbers = Any  # numpy.ndarray


def occluded(encoder: Encoder, state: Numbers) -> Numbers:
    """Return (columns, width): the dense state with one feature unknown in each row.

    A number that is not known is the mean, a category that is not known is none (as Robnik-Šikonja
    and Kononenko 2008 explain a single prediction).
    """
    ends = np.cumsum([0, *(column.width for column in encoder.columns)])
    rows = np.repeat(state, len(encoder.columns), axis=0)
    for row, (start, end) in enumerate(pairwise(ends)):
        rows[row, start:end] = 0
    return rows


def strongest(
    names: Sequence[str], values: Mapping[str, Any], effects: Sequence[float], unit: str
) -> tuple[Reason, ...]:
    """Return the features of the largest effects, the largest first.

    Args:
        names: Of the features.
        values: What the request says of them.
        effects: What each adds to the score, one a name.
        unit: Of the score, for people.
    """
    order = sorted(range(len(names)), key=lambda place: -abs(effects[place]))[:SHOWN]
    return tuple(
        Reason(
            f"{names[place]} is {shown(values.get(names[place]))}: "
            f"{effects[place]:+.3g} {unit}".rstrip(),
            names[place],
            values.get(names[place]),
            float(effects[place]),
        )
        for place in order
        if abs(effects[place]) > LEAST
    )


def shown(value: Any) -> str:
    """Write a value as a person would."""
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " and ".join(map(shown, value)) or "empty"
    return str(value)
