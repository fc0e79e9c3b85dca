"""Which part a row falls into when data is split: by the seed, and by what keeps rows together.

Rows that share a prompt, a plan or an episode stay in one part, or what was learned from one of
them would be evaluated on another.
"""

import hashlib
import json
from typing import Any

from policy_api.v1alpha1.recipes.common import TEXT_RECIPES, Recipe

EPISODE = "(episode)"  # consecutive rows until `done`
ROW = "(row)"  # equal rows

_encode = json.JSONEncoder(sort_keys=True).encode


def canonical(content: Any) -> str:
    """Return JSON that is the same for the same content."""
    return _encode(content)


def draw(group: str, seed: int) -> int:
    """Return a number below 2**64 that depends on the seed and on a text, and looks random."""
    return int.from_bytes(hashlib.sha256(b"%d " % seed + group.encode()).digest()[:8], "big")


def part_of(drawn: int, train: int, validation: int) -> str:
    """Return the part of what was drawn, with these percents of the first two parts."""
    share = drawn % 100
    if share < train:
        return "train"
    return "validation" if share < train + validation else "test"


def together(recipe: Recipe) -> str:
    """Return what keeps the rows of a recipe together: a field, EPISODE or ROW."""
    if recipe in TEXT_RECIPES:
        return "prompt"
    if recipe is Recipe.PLAN_PREFERENCE:
        return "plan"
    return EPISODE if recipe is Recipe.CQL else ROW


class Groups:
    """Tells each row's group; the rows must come in their order.

    Args:
        by: EPISODE, ROW, or a field whose value rows of one group share.
    """

    def __init__(self, by: str) -> None:
        self.by = by
        self._episode = ""  # the first row of the one that was seen last
        self._ended = True
        self._file = ""

    def see(self, row: dict[str, Any], file: str) -> None:
        """Note a row that was read, also one that will be dropped: it may end an episode."""
        if self.by != EPISODE:
            return
        if self._ended or file != self._file:
            self._episode, self._file = canonical({EPISODE: row}), file
        self._ended = row.get("done", row.get("next_state") is None) is True

    def of(self, row: dict[str, Any], line: str) -> str:
        """Return the group of the row that was seen last.

        Args:
            row: Has the field.
            line: It, as canonical JSON.

        Raises:
            KeyError: the row has not the field.
        """
        if self.by == ROW:
            return line
        return self._episode if self.by == EPISODE else canonical({self.by: row[self.by]})
