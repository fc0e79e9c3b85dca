"""A classifier of rows in two classes, calibrated: how it scores, and how it is kept.

Kept as JSON alone: `classifier.json` has the feature schema and the calibration curve, and for
trees `trees.json` is XGBoost's own file. Neither is a pickle.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from policy_models.features import Encoder, Row

FILE, TREES = "classifier.json", "trees.json"

Numbers = Any  # numpy.ndarray, one number a row


class Scorer(Protocol):
    """What gives rows a score between 0 and 1."""

    def score(self, rows: Sequence[Row]) -> Numbers:
        """Return one score a row."""
        ...

    def importances(self) -> list[tuple[str, float]]:
        """Return what each column counts, adding up to 1, the most important first."""
        ...

    def write(self, folder: Path) -> dict[str, Any]:
        """Write own files; return what else must be kept."""
        ...


class Trees:
    """Gradient-boosted trees, as an xgboost.Booster."""

    def __init__(self, encoder: Encoder, booster: Any) -> None:
        self._encoder = encoder
        self._booster = booster

    @classmethod
    def read(cls, encoder: Encoder, file: Path) -> Self:
        """Read an artifact's trees, to score rows."""
        from xgboost import Booster  # noqa: PLC0415 - seconds

        return cls(encoder, Booster(model_file=file))

    def score(self, rows: Sequence[Row]) -> Numbers:
        """Return one probability a row, not calibrated."""
        return self._booster.predict(matrix(self._encoder, rows)).astype(float)

    def importances(self) -> list[tuple[str, float]]:
        """Return each column's share of the gain of all splits."""
        gains = self._booster.get_score(importance_type="total_gain")
        return _shares({name: float(gains.get(name, 0)) for name in self._encoder.code_names()})

    def write(self, folder: Path) -> dict[str, Any]:
        """Write XGBoost's own file."""
        self._booster.save_model(folder / TREES)
        return {"model": "XGBoost"}


@dataclass(frozen=True)
class Linear:
    """Logistic regression: a weight for each dense column, and a bias."""

    encoder: Encoder
    weights: Numbers
    bias: float

    def score(self, rows: Sequence[Row]) -> Numbers:
        """Return one probability a row, not calibrated."""
        return 1 / (1 + np.exp(-(self.encoder.dense(rows) @ self.weights + self.bias)))

    def importances(self) -> list[tuple[str, float]]:
        """Return each column's share of the weights' sizes."""
        ends = np.cumsum([0, *(column.width for column in self.encoder.columns)])
        sizes = {
            column.name: float(np.abs(self.weights[start:end]).sum())
            for column, start, end in zip(self.encoder.columns, ends, ends[1:], strict=False)
        }
        return _shares(sizes)

    def write(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002 - it has no file of its own
        """Return the weights."""
        return {
            "model": "LogisticRegression",
            "weights": self.weights.tolist(),
            "bias": self.bias,
        }


@dataclass(frozen=True)
class Calibrator:
    """Isotonic regression of the class on the score (Zadrozny and Elkan 2002); none is no change.

    Linear between the centres of its steps (centered isotonic regression, Oron and Flournoy 2017),
    so that rows which the scorer tells apart do not become equal, and the AUC stays. Its ends stay
    off 0 and 1 by one row's worth: nobody knows a probability better than that.
    """

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, scores: Numbers) -> Numbers:
        """Return the probability that goes with each score."""
        return np.interp(scores, self.x, self.y) if self.x else scores


@dataclass(frozen=True)
class Classifier:
    """A scorer and its calibration."""

    encoder: Encoder
    scorer: Scorer
    calibrator: Calibrator

    def probabilities(self, rows: Sequence[Row]) -> Numbers:
        """Return the probability of the positive class of each row."""
        return self.calibrator.apply(self.scorer.score(rows))

    def write(self, folder: Path, label: str, positive: str) -> None:
        """Write it; the label's names are for readers."""
        kept = {
            **self.scorer.write(folder),
            "label": label,
            "positive": positive,
            "features": self.encoder.to_json(),
            "calibration": {"x": self.calibrator.x, "y": self.calibrator.y},
        }
        (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote."""
        kept = json.loads((folder / FILE).read_text())
        encoder = Encoder.from_json(kept["features"])
        scorer: Scorer
        if kept["model"] == "XGBoost":
            scorer = Trees.read(encoder, folder / TREES)
        else:
            scorer = Linear(encoder, np.array(kept["weights"]), float(kept["bias"]))
        curve = kept["calibration"]
        return cls(encoder, scorer, Calibrator(tuple(curve["x"]), tuple(curve["y"])))


def matrix(encoder: Encoder, rows: Sequence[Row], truth: Numbers | None = None) -> Any:
    """Return rows as the xgboost.DMatrix that trees see, with their classes if they are known."""
    from xgboost import DMatrix  # noqa: PLC0415 - seconds

    return DMatrix(
        encoder.codes(rows),
        label=truth,
        feature_names=encoder.code_names(),
        feature_types=encoder.code_types(),
        enable_categorical=True,
    )


def _shares(sizes: dict[str, float]) -> list[tuple[str, float]]:
    total = sum(sizes.values()) or 1.0
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [(name, size / total) for name, size in ordered]
