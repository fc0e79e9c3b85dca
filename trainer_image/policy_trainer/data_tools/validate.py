"""Say of data what its training would say, before anything is trained."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from policy_api.contract.run import RunConfig, RunInput
from policy_api.v1alpha1.recipes.blocks import RecipeBlocks

from policy_trainer import checks, data
from policy_trainer.data_tools import sources
from policy_trainer.data_tools.whole import Whole
from policy_trainer.errors import DataInvalidError
from policy_trainer.parts import Groups, together

SHOWN = 10  # faults that are told one by one


def validate(
    run: RecipeBlocks, files: Sequence[RunInput], seed: int
) -> tuple[list[str], dict[str, int]]:
    """Return the faults, each a sentence, and how many good rows each part has.

    Args:
        run: The recipe, and its settings.
        files: Its inputs.
        seed: Of inputs with a split.
    """
    faults = _Faults()
    with tempfile.TemporaryDirectory(prefix="policyctl-") as scratch:
        whole = Whole(run, Path(scratch))
        for source in files:
            try:
                _check(run, source, seed, whole, faults)
            except DataInvalidError as error:  # the rest of the file is unknown
                faults.add(error)
        if not faults.count:  # else what is missing may be in the rows at fault
            try:
                whole.check()
            except DataInvalidError as error:
                faults.add(error)
        return list(faults.told()), {name: part.rows for name, part in whole.parts.items()}


def inputs(run: RunConfig) -> list[RunInput]:
    """Return the inputs that a training reads."""
    return [source for source in run.data if source.name in checks.inputs(run.recipe)]


def _check(run: RecipeBlocks, source: RunInput, seed: int, whole: Whole, faults: "_Faults") -> None:
    if source.sha256 is not None:
        _check_sum(source)
    check, rows = checks.of(run), 0
    groups = Groups(together(run.recipe))
    for place, found in islice(sources.rows(source), source.max_rows):
        rows += 1
        try:
            row = check(data.readable(found), place)
        except DataInvalidError as error:
            faults.add(error)
            continue
        whole.add(data.part(source, row, groups, seed), row, place.number)
    if not rows:
        raise data.empty(source)


def _check_sum(source: RunInput) -> None:
    with sources.opened(source) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    data.check_sum(source, found, f"data[{source.name}]")


class _Faults:
    """Keeps the first faults, and counts all."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, error: DataInvalidError) -> None:
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(error.message)

    def told(self) -> Iterator[str]:
        yield from self._first
        if self.count > SHOWN:
            yield f"and {self.count - SHOWN:,} more"
