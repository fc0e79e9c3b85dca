"""What a recipe hands to run.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_api.artifact import Generation, ManifestData
from policy_api.base import Metric


@dataclass(frozen=True)
class Fitted:
    """What came out of a training loop that ran to its end."""

    weights: Path  # all weights, or the adapter's
    step: int
    resumed_from_step: int | None


@dataclass(frozen=True)
class Evaluated:
    """What rank 0 makes of a run that ran to its end."""

    model: Any  # a transformers model, its adapter merged
    tokenizer: Any
    metrics: list[Metric]


@dataclass(frozen=True)
class Trained:
    """A run that ran to its end."""

    fitted: Fitted
    data: list[ManifestData]
    generation: Generation
    evaluated: Evaluated | None  # rank 0 only
