"""What a version cost, and those that it was made from: for its manifest and its report.

The trainer counts from the start of its own process. The operator counts from the start of the
pod and to its end, so that its figure, in the PolicyTraining's status, is a little higher.
"""

import os
from collections.abc import Iterator

from policy_api.contract.artifact import MANIFEST, VersionCost, parse_manifest
from policy_api.contract.environment import CPU_VARIABLE
from policy_api.contract.run import BaseArtifact, RunConfig
from policy_api.rules import cost

from policy_trainer import storage
from policy_trainer.figures import Cell, Table
from policy_trainer.references import COMPARED

COLUMNS = (
    "component",
    "hours",
    "GPU hours",
    "CPU hours",
    "estimated USD",
    "actual USD",
    "status",
)


def of(run: RunConfig, version: int, seconds: float) -> tuple[VersionCost, ...]:
    """Return the cost of each version that this one was made from, and last its own.

    Args:
        run: The attempt.
        version: Number of the version that it makes.
        seconds: How long the attempt has run.
    """
    held = _held(run)
    known = {(c.policy, c.version): c for artifact in _parts(run) for c in _told(artifact)}
    own = VersionCost(
        policy=run.policy,
        version=version,
        recipe=run.recipe,
        cost=cost.cost(run.budget, held, cost.spent(run.spent_seconds + round(seconds), held)),
    )
    return (*known.values(), own)


def _held(run: RunConfig) -> cost.Held:
    """Return what the pods hold: by the spec, and the CPUs as they were given to this one."""
    by_spec = cost.held(run.compute)
    given = int(os.environ.get(CPU_VARIABLE, "0"))  # thousandths; 0 without a request
    return cost.Held(run.compute.nodes * given / 1000, by_spec.gpus) if given else by_spec


def _parts(run: RunConfig) -> Iterator[BaseArtifact]:
    """Yield the artifacts without which there would be no run; not those to compare with."""
    if run.base.artifact is not None:
        yield run.base.artifact
    yield from (r.artifact for r in run.references if not r.name.startswith(COMPARED))


def _told(artifact: BaseArtifact) -> tuple[VersionCost, ...]:
    content = storage.open_store(artifact.path).read(MANIFEST)
    return () if content is None else parse_manifest(content).costs


def table(costs: tuple[VersionCost, ...]) -> Table:
    """Return the table of costs, estimated against actual, with their sum."""
    rows = [_row(f"{c.policy} version {c.version}, {c.recipe}", c) for c in costs]
    if len(rows) > 1:
        rows.append(["total", *(_sum(column) for column in list(zip(*rows, strict=True))[1:])])
    return Table("costs", "Cost", COLUMNS, [[*row, _status(row)] for row in rows])


def _row(name: str, told: VersionCost) -> list[Cell]:
    spent = told.cost
    hours = (n / cost.HOUR for n in (spent.run_seconds, spent.gpu_seconds, spent.cpu_seconds))
    return [name, *hours, spent.estimated_usd, spent.usd]


def _sum(column: tuple[Cell, ...]) -> Cell:
    """Return the sum of what is known; None when nothing is."""
    known = [value for value in column if isinstance(value, int | float)]
    return sum(known) if known else None


def _status(row: list[Cell]) -> str:
    """Compare the row's last two: estimated and actual."""
    estimated, actual = row[-2:]
    if not isinstance(estimated, int | float) or not isinstance(actual, int | float):
        return ""
    return "over the estimate" if actual > estimated else "within the estimate"
