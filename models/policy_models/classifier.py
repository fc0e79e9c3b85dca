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

from policy_models import reasons, states
from policy_models.actions import chosen, places
from policy_models.calibration import Calibrator
from policy_models.decision import Decision, Option, Reason, Refusal, Request, greedy
from policy_models.features import Encoder, Row

FILE, TREES = "classifier.json", "trees.json"

Numbers = Any  # numpy.ndarray, one number a row


class Scorer(Protocol):
    """What gives rows a score between 0 and 1."""

    def score(self, rows: Sequence[Row]) -> Numbers:
        """Return one score a row."""
        ...

    def contributions(self, row: Row) -> Numbers:
        """Return what each feature adds to the log-odds of the positive class, one a feature."""
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

    def contributions(self, row: Row) -> Numbers:
        """Return the SHAP values of the features (Lundberg, Erion and Lee 2018), XGBoost's own."""
        found = self._booster.predict(matrix(self._encoder, [row]), pred_contribs=True)[0, :-1]
        return _sums(found, [len(column.code_names) for column in self._encoder.columns])

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
        # einsum: see Layers.apply.
        found = np.einsum("ri,i->r", self.encoder.dense(rows).astype(float), self.weights)
        return 1 / (1 + np.exp(-(found + self.bias)))

    def contributions(self, row: Row) -> Numbers:
        """Return each feature's part of the log-odds, beside that of an average row."""
        return self._by_feature(self.encoder.dense([row])[0] * self.weights)

    def _by_feature(self, numbers: Numbers) -> Numbers:
        return _sums(numbers, [column.width for column in self.encoder.columns])

    def importances(self) -> list[tuple[str, float]]:
        """Return each column's share of the weights' sizes."""
        sizes = self._by_feature(np.abs(self.weights))
        return _shares(dict(zip(self.encoder.names, sizes.tolist(), strict=True)))

    def write(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002 - it has no file of its own
        """Return the weights."""
        return {
            "model": "LogisticRegression",
            "weights": self.weights.tolist(),
            "bias": self.bias,
        }


@dataclass(frozen=True)
class Classes:
    """What is told apart."""

    label: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Classifier:
    """A scorer and its calibration."""

    encoder: Encoder
    scorer: Scorer
    calibrator: Calibrator
    classes: Classes
    slow = False

    def probabilities(self, rows: Sequence[Row]) -> Numbers:
        """Return the probability of the positive class of each row."""
        return self.calibrator.apply(self.scorer.score(rows))

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank the two classes by their probability."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        allowed = self._allowed(request)
        if isinstance(allowed, Refusal):
            return allowed
        names = self.actions
        state = request.state or {}
        likely = float(self.probabilities([state])[0])
        found = (likely, 1 - likely)
        ranking = greedy(  # of equals the positive
            Option(
                names[place],
                found[place],
                confidence=found[place],
                reasons=self._reasons(state, place) if request.explain else (),
            )
            for place in allowed
        )
        return Decision(ranking, states.unseen(self.encoder, state))

    @property
    def actions(self) -> tuple[str, ...]:
        """The two classes, the positive one first."""
        return self.classes.positive, self.classes.negative

    def choices(self, request: Request) -> tuple[str, ...] | Refusal:
        """Return the classes that a request allows, without asking the model."""
        return chosen(self._allowed(request), self.actions)

    def _allowed(self, request: Request) -> list[int] | Refusal:
        wrong = states.refusal(self.encoder, request.state)
        return places(request, self.actions) if wrong is None else wrong

    def _reasons(self, state: Row, place: int) -> tuple[Reason, ...]:
        effects = self.scorer.contributions(state) * (-1 if place else 1)
        return reasons.strongest(self.encoder.names, state, effects.tolist(), "of log-odds")

    def example(self) -> Request:
        """Return a row of which nothing is known."""
        return Request(state=dict.fromkeys(self.encoder.names))

    def inputs(self) -> dict[str, Any]:
        """Return the features and the classes."""
        classes = [self.classes.positive, self.classes.negative]
        return {
            "state": self.encoder.to_json(),
            "actions": classes,
            "label": self.classes.label,
        }

    def write(self, folder: Path) -> None:
        """Write it."""
        kept = {
            **self.scorer.write(folder),
            "label": self.classes.label,
            "positive": self.classes.positive,
            "negative": self.classes.negative,
            "features": self.encoder.to_json(),
            "calibration": self.calibrator.to_json(),
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
        positive = kept["positive"]
        negative = kept.get("negative", f"not {positive}")  # older trainers did not keep it
        classes = Classes(kept["label"], positive, negative)
        return cls(encoder, scorer, Calibrator.from_json(kept["calibration"]), classes)


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


def _sums(numbers: Numbers, widths: Sequence[int]) -> Numbers:
    """Return the sum of each run of so many numbers; of an empty run 0."""
    return np.array([part.sum() for part in np.split(numbers, np.cumsum(widths)[:-1])])


def _shares(sizes: dict[str, float]) -> list[tuple[str, float]]:
    total = sum(sizes.values()) or 1.0
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [(name, size / total) for name, size in ordered]
