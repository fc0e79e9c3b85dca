"""From logs to the rows of a recipe, in parts, with a report of what was dropped and why.

    policyctl data prepare CQL telemetry.jsonl --output DIR

Rows pass one by one, so memory does not grow with the input. What must be remembered of all of them
is on disk: which rows there were (for duplicates) and, for `--max-rows`, how many rows each group
has. The seed draws a number for each group of rows from its content: it says the group's part, and
a sample is the groups of the smallest numbers. So the same rows make the same parts whatever their
order, and a larger sample has all of a smaller one.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_api.contract.run import RunInput
from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.recipes.common import TEXT_RECIPES, Recipe

from policy_trainer import checks, data
from policy_trainer.data import PARTS, Place, Row
from policy_trainer.data_tools import shapes, sources
from policy_trainer.data_tools.index import Seen, Sizes
from policy_trainer.data_tools.output import Lines, Written, publish, staging
from policy_trainer.data_tools.report import Dropped
from policy_trainer.data_tools.shapes import LeftOutError
from policy_trainer.data_tools.summary import lengths
from policy_trainer.data_tools.whole import Whole
from policy_trainer.errors import DataInvalidError
from policy_trainer.parts import Groups, canonical, draw, part_of

REPORT = "report.json"
# Equal texts say nothing new; equal rows of a table or of a log can be different customers or
# decisions, and how many there are counts.
UNIQUE_RECIPES = (*TEXT_RECIPES, Recipe.PLAN_PREFERENCE)


@dataclass(frozen=True)
class Settings:
    """What is wanted."""

    run: RecipeBlocks
    seed: int
    percents: Mapping[str, int]  # by part, adding up to 100
    by: str
    keep_duplicates: bool
    max_rows: int | None = None
    longest: int | None = None  # characters of a row's texts
    strict: bool = False


@dataclass(frozen=True)
class Kept:
    """A row that goes into a part."""

    line: str
    checked: Row
    drawn: int


def prepare(files: list[RunInput], settings: Settings, output: Path) -> dict[str, Any]:
    """Write the parts and the report; return the report.

    Raises:
        DataInvalidError: no row is left, or what is left cannot be trained on; with `strict`, the
            first bad row. Nothing was written.
    """
    with staging(output) as scratch:
        reader = _Reader(settings, scratch)
        kept = reader.rows(files)
        if settings.max_rows is not None:
            kept = _sampled(kept, settings, scratch, reader.dropped)
        whole = Whole(settings.run, scratch)
        written = _write(kept, settings, scratch, whole)
        total = sum(part.rows for part in written.values())
        if not total:
            raise DataInvalidError(_nothing(reader))
        if "train" not in written:
            raise DataInvalidError(f"none of {total} rows fell into train: give more rows")
        whole.check()
        report: dict[str, Any] = {
            "recipe": settings.run.recipe,
            "seed": settings.seed,
            "together": settings.by,
            "inputs": [{"file": file, "rows": rows} for file, rows in reader.read.items()],
            "read": reader.read.total(),
            "kept": total,
            "dropped": reader.dropped.to_json(),
            "parts": {
                name: {"file": part.name, "share": round(part.rows / total, 6)}
                | {"sha256": part.sha256, "bytes": part.bytes}
                | whole.parts[name].to_json()
                for name, part in written.items()
            },
            "empty": [name for name in PARTS if settings.percents[name] and name not in written],
        }
        (scratch / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        names = [part.name for part in written.values()]
        stale = [f"{name}.jsonl" for name in PARTS if name not in written]
        publish(scratch, output, [*names, REPORT], stale)
    return report


def _nothing(reader: "_Reader") -> str:
    worst = next(iter(reader.dropped.to_json()), None)
    if worst is None:
        return "there are no rows"
    why = worst.get("example", worst["reason"])
    return f"none of {reader.read.total()} rows can be used; most of them: {why}"


class _Reader:
    """Reads, shapes, checks; counts what was read and what was dropped."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.read: Counter[str] = Counter()
        self.dropped = Dropped()
        self._settings = settings
        self._shape = shapes.of(settings.run)
        self._groups = Groups(settings.by)
        self._seen = None if settings.keep_duplicates else Seen(scratch / "seen.db")

    def rows(self, files: list[RunInput]) -> Iterator[Kept]:
        """Yield the rows that are good."""
        for file in files:
            self.read[file.uri] += 0
            for place, found in sources.rows(file):
                self.read[file.uri] += 1
                try:
                    yield self._kept(data.readable(found), place)
                except LeftOutError as error:
                    self.dropped.add(str(error), place)
                except DataInvalidError as error:
                    if self._settings.strict:
                        raise
                    self.dropped.add_error(error, place)

    def _kept(self, row: Row, place: Place) -> Kept:
        self._groups.see(row, place.source.uri)
        made, checked = self._shape(row, place)
        by = self._settings.by
        if by in row:
            made = {**made, by: row[by]}
        self._check_length(checked, place)
        line = canonical(made)
        group = sources.group_of(self._groups, checked if by in checked else made, line, place)
        drawn = draw(group, self._settings.seed)
        if self._seen is not None:
            own = drawn if group is line else draw(line, self._settings.seed)
            if not self._seen.add(own):
                raise LeftOutError("equal to an earlier row")
        return Kept(line, checked, drawn)

    def _check_length(self, row: Row, place: Place) -> None:
        longest = self._settings.longest
        if longest is None:
            return
        for name, length in lengths(row):
            if length > longest:
                raise place.error(
                    f"field {name!r} has {length:,} characters, at most {longest:,} are wanted",
                    name,
                )


def _sampled(
    kept: Iterator[Kept], settings: Settings, scratch: Path, dropped: Dropped
) -> Iterator[Kept]:
    """Yield the rows of a uniform sample of the groups, in their order."""
    assert settings.max_rows is not None  # asked for
    sizes, spill = Sizes(scratch / "sizes.db"), scratch / "spill"
    rows = 0
    with spill.open("w") as file:
        for row in kept:
            sizes.add(row.drawn)
            file.write(f"{row.drawn} {row.line}\n")
            rows += 1
    end = sizes.below(settings.max_rows)
    check, source = checks.of(settings.run), RunInput(name="train", uri="spill", path=str(spill))
    left = 0
    with spill.open() as file:
        for number, entry in enumerate(file, start=1):
            drawn, line = entry.rstrip("\n").split(" ", 1)
            if int(drawn) < end:
                left += 1
                yield Kept(line, check(json.loads(line), Place(source, number)), int(drawn))
    if rows and not left:
        raise DataInvalidError(
            f"more than {settings.max_rows} rows share their {settings.by}: raise --max-rows"
        )
    dropped.many("over --max-rows", rows - left)


def _write(
    kept: Iterator[Kept], settings: Settings, scratch: Path, whole: Whole
) -> dict[str, Written]:
    """Write each row to its part; return what was written, of parts that have rows."""
    percents = settings.percents
    with ExitStack() as stack:
        parts = {
            name: stack.enter_context(Lines(scratch / f"{name}.jsonl"))
            for name in PARTS
            if percents[name]
        }
        for number, row in enumerate(kept, start=1):
            name = part_of(row.drawn, percents["train"], percents["validation"])
            parts[name].write(row.line)
            whole.add(name, row.checked, number)
        written = {name: part.end() for name, part in parts.items()}
    return {name: part for name, part in written.items() if part.rows}
