"""Logged decisions, `{state, action, reward, next_state, done, propensity}` a row, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from policy_models.features import Encoder

from policy_trainer import checks
from policy_trainer.data import Row

Numbers = Any  # numpy.ndarray, one number a row


def action_space(parts: dict[str, list[Row]], declared: Sequence[str], field: str) -> list[str]:
    """Return what may be chosen: as declared, else what the training data has, by alphabet.

    Raises:
        DataInvalidError: there are not two, or other data has more.
    """
    space = checks.choices({row["action"] for row in parts["train"]}, declared)
    for name, rows in parts.items():
        for number, row in enumerate(rows, start=1):
            checks.chosen(row["action"], space, name, number, field)
    return space


@dataclass(frozen=True)
class Decisions:
    """Decisions as arrays."""

    states: Numbers  # float32 (rows, width)
    actions: Numbers  # int64, places in the action space
    rewards: Numbers  # float64
    following: Numbers  # float32 (rows, width)
    done: Numbers  # float32, 1 where the decision was the last
    propensities: Numbers | None  # None unless every row has one

    @classmethod
    def of(cls, rows: Sequence[Row], encoder: Encoder, space: Sequence[str]) -> "Decisions":
        """Return rows as arrays."""
        place = {action: number for number, action in enumerate(space)}
        every = all("propensity" in row for row in rows)
        return cls(
            encoder.dense([row["state"] for row in rows]),
            np.array([place[row["action"]] for row in rows]),
            np.array([row["reward"] for row in rows]),
            encoder.dense([row["next_state"] for row in rows]),
            np.array([row["done"] for row in rows], dtype=np.float32),
            np.array([row["propensity"] for row in rows]) if every else None,
        )
