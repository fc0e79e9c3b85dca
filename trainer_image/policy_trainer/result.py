"""What a recipe hands to run.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from policy_api.base import Metric
from policy_api.contract.artifact import Generation, Kind, ManifestData

from policy_trainer.figures import Chart, History, Table

Writer = Callable[[Path], None]  # writes files into a folder


@dataclass(frozen=True)
class Fitted:
    """What came out of a training loop that ran to its end."""

    step: int
    resumed_from_step: int | None
    history: History = ()
    """What was logged: each row has `step` and metrics."""
    stopped_early: str | None = None
    """Why a rule of `stopEarly` ended it, as a sentence."""


@dataclass(frozen=True)
class Evaluated:
    """What rank 0 makes of a run that ran to its end."""

    metrics: list[Metric]
    kind: Kind
    write: Writer
    """Writes the model's own files."""
    generation: Generation | None = None
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A run that ran to its end."""

    fitted: Fitted
    data: list[ManifestData]
    evaluated: Evaluated | None  # rank 0 only
