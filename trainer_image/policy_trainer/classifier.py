"""A classifier of rows in two classes, calibrated: how it learns, scores, and is kept.

Kept as JSON alone: `classifier.json` has the feature schema and the calibration curve, and for
trees `trees.json` is XGBoost's own file. Neither is a pickle.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from policy_api.v1alpha1.recipes.classifier import LogisticRegression, XGBoost

from policy_trainer.data import Row
from policy_trainer.tabular import Encoder

FILE, TREES = "classifier.json", "trees.json"
UNIT = 25  # rounds, see Trees

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
    """Gradient-boosted trees, grown one round at a time.

    XGBoost keeps the state of its sampling of columns to itself. So every UNIT rounds a new booster
    takes the trees over, and what a checkpoint holds is the newest of those: from there, the rounds
    since are grown again, exactly.
    """

    def __init__(self, encoder: Encoder, booster: Any) -> None:
        self._encoder = encoder
        self._booster = booster
        self._settings: dict[str, Any] = {}
        self._learned: Any = None
        self._taken_over: bytes | None = None

    @classmethod
    def start(
        cls, encoder: Encoder, block: XGBoost, seed: int, rows: Sequence[Row], truth: Numbers
    ) -> Self:
        """Return no trees yet, which will learn from these rows."""
        trees = cls(encoder, None)
        trees._settings = {
            "objective": "binary:logistic",
            "eta": block.learning_rate,
            "max_depth": block.max_depth,
            "min_child_weight": block.min_child_weight,
            "subsample": block.subsample,
            "colsample_bytree": block.column_sample,
            "lambda": block.l2,
            "tree_method": "hist",
            "seed": seed,
            "seed_per_iteration": True,
        }
        trees._learned = _matrix(encoder, rows, truth)
        trees._new_booster()
        return trees

    @classmethod
    def read(cls, encoder: Encoder, file: Path) -> Self:
        """Read an artifact's trees, to score rows."""
        from xgboost import Booster  # noqa: PLC0415 - seconds

        return cls(encoder, Booster(model_file=file))

    def grow(self, number: int) -> None:
        """Add the tree of a round, counted from 0."""
        if number and number % UNIT == 0:
            self._taken_over = bytes(self._booster.save_raw())
            self._new_booster()
        self._booster.update(self._learned, number)

    def loss(self) -> float:
        """Return the mean loss on the rows to learn from, in nats."""
        said = self._booster.eval_set([(self._learned, "train")])
        return float(said.rsplit(":", 1)[1])

    def save(self, file: Path) -> None:
        """Write what a later process needs to go on."""
        file.write_bytes(self._taken_over or b"")

    def resume(self, file: Path, rounds: int) -> None:
        """Go on from what `save` wrote after so many rounds."""
        self._taken_over = file.read_bytes() or None
        self._new_booster()
        last = (rounds - 1) // UNIT * UNIT
        for number in range(last, rounds):
            self._booster.update(self._learned, number)

    def _new_booster(self) -> None:
        from xgboost import Booster  # noqa: PLC0415 - seconds

        self._booster = Booster(self._settings, [self._learned])
        if self._taken_over is not None:
            self._booster.load_model(bytearray(self._taken_over))

    def score(self, rows: Sequence[Row]) -> Numbers:
        """Return one probability a row, not calibrated."""
        return self._booster.predict(_matrix(self._encoder, rows)).astype(float)

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

    @classmethod
    def fit(
        cls, block: LogisticRegression, encoder: Encoder, rows: Sequence[Row], truth: Numbers
    ) -> Self:
        """Learn from rows."""
        from sklearn import linear_model  # noqa: PLC0415 - seconds

        model = linear_model.LogisticRegression(C=block.c, max_iter=1000)
        model.fit(encoder.dense(rows), truth)
        return cls(encoder, model.coef_[0].astype(float), float(model.intercept_[0]))

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

    @classmethod
    def fit(cls, scores: Numbers, truth: Numbers) -> Self:
        """Learn from rows that the model has not learned from."""
        from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - seconds

        edge = 1 / (len(truth) + 2)
        curve = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
        fitted = curve.fit_transform(scores, truth)
        heights, step = np.unique(fitted, return_inverse=True)
        centres = np.bincount(step, weights=scores) / np.bincount(step)
        return cls(tuple(centres.tolist()), tuple(heights.tolist()))

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


def _matrix(encoder: Encoder, rows: Sequence[Row], truth: Numbers | None = None) -> Any:
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
