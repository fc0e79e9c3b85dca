"""How a classifier of rows learns: trees, logistic regression, and their calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from policy_api.v1alpha1.recipes.classifier import LogisticRegression, XGBoost
from policy_models.calibration import Calibrator
from policy_models.classifier import Linear, Numbers, Trees, matrix
from policy_models.features import Encoder, Row

UNIT = 25  # rounds, see GrowingTrees


class GrowingTrees(Trees):
    """Gradient-boosted trees, grown one round at a time.

    XGBoost keeps the state of its sampling of columns to itself. So every UNIT rounds a new booster
    takes the trees over, and what a checkpoint holds is the newest of those: from there, the rounds
    since are grown again, exactly.
    """

    def __init__(self, encoder: Encoder, booster: Any) -> None:
        super().__init__(encoder, booster)
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
        trees._learned = matrix(encoder, rows, truth)
        trees._new_booster()
        return trees

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


def fit_linear(
    block: LogisticRegression, encoder: Encoder, rows: Sequence[Row], truth: Numbers
) -> Linear:
    """Learn logistic regression from rows."""
    from sklearn import linear_model  # noqa: PLC0415 - seconds

    model = linear_model.LogisticRegression(C=block.c, max_iter=1000)
    model.fit(encoder.dense(rows), truth)
    return Linear(encoder, model.coef_[0].astype(float), float(model.intercept_[0]))


def fit_calibrator(scores: Numbers, truth: Numbers) -> Calibrator:
    """Learn from rows that the model has not learned from."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - seconds

    edge = 1 / (len(truth) + 2)
    curve = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    fitted = curve.fit_transform(scores, truth)
    heights, step = np.unique(fitted, return_inverse=True)
    centres = np.bincount(step, weights=scores) / np.bincount(step)
    return Calibrator(tuple(centres.tolist()), tuple(heights.tolist()))
