"""Split rows in parts as they are: by their content or by a group, and by the seed."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from policy_api.contract.run import RunInput

from policy_trainer import data
from policy_trainer.data import PARTS, Row
from policy_trainer.data_tools import sources
from policy_trainer.data_tools.output import Lines, Written, publish, staging
from policy_trainer.errors import DataInvalidError
from policy_trainer.parts import EPISODE, ROW, Groups, canonical, draw, part_of


def split(
    files: list[RunInput], percents: Mapping[str, int], seed: int, by: str | None, output: Path
) -> list[Written]:
    """Write the parts; return what was written.

    Args:
        files: What to read.
        percents: By part, adding up to 100.
        seed: Says with the rows' content which part they are in.
        by: Field whose value keeps rows together; None: decisions keep together as episodes, and
            equal rows.
        output: Folder to write to.

    Raises:
        DataInvalidError: a row cannot be read, or there is none. Nothing was written.
    """
    groups: Groups | None = None
    with staging(output) as scratch, ExitStack() as stack:
        parts = {
            name: stack.enter_context(Lines(scratch / f"{name}.jsonl"))
            for name in PARTS
            if percents[name]
        }
        for file in files:
            for place, found in sources.rows(file):
                row = data.readable(found)
                groups = groups or Groups(by or _together(row))
                groups.see(row, file.uri)
                line = canonical(row)
                drawn = draw(sources.group_of(groups, row, line, place), seed)
                name = part_of(drawn, percents["train"], percents["validation"])
                parts[name].write(line)
        written = [part.end() for part in parts.values()]
        if not sum(part.rows for part in written):
            raise DataInvalidError("there are no rows")
        names = [part.name for part in written]
        stale = [f"{name}.jsonl" for name in PARTS if name not in parts]
        publish(scratch, output, names, stale)
    return written


def _together(first: Row) -> str:
    """Return what keeps rows like this one together."""
    return EPISODE if {"state", "action"} <= first.keys() else ROW
