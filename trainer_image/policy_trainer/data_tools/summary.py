"""What a part of prepared data has: rows, kinds of rows, numbers, and what is missing."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.recipes.common import Recipe

from policy_trainer import checks
from policy_trainer.data import Row

MOST = 1000  # names that are counted apart; the rest is OTHERS
OTHERS = "(others)"

Kind = Callable[[Row], str | None]


@dataclass
class Range:
    """Least, mean and greatest of numbers."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0

    def add(self, value: float) -> None:
        """Take a number in."""
        self.count += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def to_json(self) -> dict[str, float]:
        """Return it for the report."""
        return {"min": self.low, "mean": round(self.total / self.count, 6), "max": self.high}


class Summary:
    """Counts rows as they pass; bounded, however many there are.

    Args:
        run: The recipe, whose check the rows have passed.
    """

    def __init__(self, run: RecipeBlocks) -> None:
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.numbers: dict[str, Range] = {}
        self.episodes = 0
        self._present: Counter[str] = Counter()
        self._run = run
        self._kind = kind_of(run)
        if run.classifier is not None:
            self.kinds[run.classifier.positive] = 0  # told also when no row is of it

    def add(self, row: Row) -> None:
        """Count a row, as the recipe's check returned it."""
        self.rows += 1
        if (kind := self._kind(row)) is not None:
            _count(self.kinds, kind)
        columns: Mapping[str, Any] = {}
        if self._run.recipe is Recipe.CQL:
            columns = row["state"]
            self.episodes += row["done"]
            self._number("reward", row["reward"])
        elif self._run.recipe is Recipe.CLASSIFIER:
            columns = row
        elif self._run.constrained_ppo is not None:
            columns = row
            self._number(
                self._run.constrained_ppo.value, float(row[self._run.constrained_ppo.value])
            )
        else:
            for name, length in lengths(row):
                self._number(f"characters of {name}", length)
        for name, value in columns.items():
            if not _missing(value):
                _count(self._present, name)
            elif name not in self._present and len(self._present) < MOST:
                self._present[name] = 0

    def missing(self) -> dict[str, int]:
        """Return in how many rows each column is empty or not there, of those that some miss."""
        absent = {name: self.rows - found for name, found in self._present.items()}
        return {name: count for name, count in absent.items() if count and name != OTHERS}

    def _number(self, name: str, value: float) -> None:
        self.numbers.setdefault(name, Range()).add(value)

    def to_json(self) -> dict[str, Any]:
        """Return it for the report, without what there is none of."""
        made: dict[str, Any] = {"rows": self.rows}
        if self.episodes:
            made["episodes"] = self.episodes
        if self.kinds:
            made[KINDS[self._run.recipe]] = dict(self.kinds.most_common())
        if self.numbers:
            made["numbers"] = {name: found.to_json() for name, found in self.numbers.items()}
        if missing := self.missing():
            made["missing"] = missing
        return made


KINDS = {
    Recipe.DPO: "labels",
    Recipe.REWARD_MODEL: "labels",
    Recipe.CQL: "actions",
    Recipe.CLASSIFIER: "classes",
    Recipe.PLAN_PREFERENCE: "judgements",
}


def kind_of(run: RecipeBlocks) -> Kind:
    """Return what names a checked row's label, action, class or judgement."""
    match run.recipe:
        case Recipe.DPO | Recipe.REWARD_MODEL:
            return lambda row: row.get("label")
        case Recipe.CQL:
            return lambda row: str(row["action"])
        case Recipe.PLAN_PREFERENCE:
            return lambda row: {True: "liked", False: "disliked", None: None}[row["liked"]]
        case Recipe.CLASSIFIER:
            block = run.classifier
            assert block is not None  # the recipe's
            return lambda row: checks.class_of(block, row)
        case _:
            return lambda _row: None


def lengths(row: Row) -> Iterator[tuple[str, int]]:
    """Yield the texts of a checked row, and how many characters they have; a chat is one text."""
    for name, value in row.items():
        if isinstance(value, str) and name != "label":
            yield name, len(value)
        elif _is_chat(value):
            yield name, sum(len(message["content"]) for message in value)


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict) and isinstance(message.get("content"), str) for message in value
    )


def _count(counts: Counter[str], name: str) -> None:
    counts[name if name in counts or len(counts) < MOST else OTHERS] += 1


def _missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )
