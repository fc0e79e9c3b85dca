"""Logged decisions, `{state, action, reward, next_state, done, propensity}` a row, as arrays."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policy_trainer import data
from policy_trainer.data import Place, Row
from policy_trainer.errors import DataInvalidError
from policy_trainer.tabular import Encoder

SEQUENCE = ">"  # joins the actions of a sequence: a name of its own

Numbers = Any  # numpy.ndarray, one number a row


def check(row: Row, place: Place, known: Sequence[str] = ()) -> Row:
    """Return a row that training can use.

    Args:
        row: As it was read; a `next_state` may be left out where a decision was the last one.
        place: Where it stands.
        known: Actions that may be taken; none: any.

    Raises:
        DataInvalidError: names the field.
    """
    action = _action(row, place)
    if known and action not in known:
        raise place.error(_unknown(action, known), "action")
    following = row.get("next_state")
    done = row.get("done", following is None)
    if not isinstance(done, bool):
        raise place.error(f"field 'done' is {done!r}, wanted true or false", "done")
    if not done and not isinstance(following, dict):
        message = "field 'next_state' must be an object unless 'done' is true"
        raise place.error(message, "next_state")
    if not isinstance(row.get("state"), dict):
        raise place.error("field 'state' must be an object of columns", "state")
    made = {
        "state": row["state"],
        "action": action,
        "reward": data.number(row, "reward", place),
        "next_state": following if isinstance(following, dict) else {},
        "done": done,
    }
    if "propensity" in row:
        made["propensity"] = data.number(row, "propensity", place)
        if not 0 < made["propensity"] <= 1:
            message = f"field 'propensity' is {made['propensity']:g}, wanted above 0 and at most 1"
            raise place.error(message, "propensity")
    return made


def _action(row: Row, place: Place) -> str:
    action = row.get("action")
    if isinstance(action, list) and action and all(isinstance(a, str) and a for a in action):
        return SEQUENCE.join(action)
    if isinstance(action, str) and action:
        return action
    found = "is missing" if "action" not in row else f"is {action!r}"
    raise place.error(f"field 'action' {found}, wanted a text or a list of texts", "action")


def _unknown(action: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(action, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"action {action!r} is not one of {', '.join(known)}{hint}"


def action_space(parts: dict[str, list[Row]], declared: Sequence[str], field: str) -> list[str]:
    """Return what may be chosen: as declared, else what the training data has, by alphabet.

    Raises:
        DataInvalidError: there are not two, or other data has more.
    """
    space = list(declared) or sorted({row["action"] for row in parts["train"]})
    if len(space) < 2:  # noqa: PLR2004 - a choice
        raise DataInvalidError(
            f"the training data has {len(space)} action, there is nothing to choose",
            field="data[train]",
        )
    for name, rows in parts.items():
        for number, row in enumerate(rows, start=1):
            if row["action"] not in space:
                raise DataInvalidError(
                    f"{_unknown(row['action'], space)}: the training data lacks it; declare "
                    f"{field}.actions, or leave the row out",
                    field=f"data[{name}] row {number} field action",
                )
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
