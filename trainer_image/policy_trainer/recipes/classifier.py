"""Classifier: the calibrated probability that a row is of the positive class.

XGBoost or logistic regression, then isotonic regression on rows kept for it. A column that must not
be looked at can be forbidden, and one that alone says the class is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.rules.nearest import hint
from policy_api.v1alpha1.recipes.classifier import Calibration, Classifier, XGBoost
from policy_models.calibration import Calibrator
from policy_models.classifier import Classes, Numbers, Scorer
from policy_models.classifier import Classifier as Model
from policy_models.features import Encoder

from policy_trainer import checks, data, references, scores, tabular
from policy_trainer.classifier_learning import GrowingTrees, fit_calibrator, fit_linear
from policy_trainer.data import Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.figures import Table, bars, curves
from policy_trainer.intervals import Intervals
from policy_trainer.loop import Loop
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Fitted, Trained
from policy_trainer.stop import StopRequest

REPORTS = 50  # in a run
CHECKPOINT = "trees.ubj"
SHOWN = 20  # columns in the chart of importances
CALIBRATION, FOLDS = 1, 2  # what a random order is for


@dataclass(frozen=True)
class Labelled:
    """Rows and their classes, 1 or 0."""

    rows: Sequence[Row]
    truth: Numbers

    def part(self, index: Numbers) -> "Labelled":
        """Return the rows of these numbers."""
        return Labelled([self.rows[n] for n in index], self.truth[index])


def train(run: RunConfig, block: Classifier, process: Process, stop: StopRequest) -> Trained:
    """Train and evaluate; one step of the run is a tree.

    Metrics on `test`, else on `validation`, or over the `folds` of `train`: `auc`, `accuracy`,
    `ece` (calibration error over 15 bins of equal mass), `log_loss` (nats),
    `accuracy_baseline_majority` and `accuracy_vs_best_baseline`.
    """
    loaded = data.load_all(run, checks.of(run))
    parts = {name: _labelled(block, name, part.rows) for name, part in loaded.items()}
    known = parts["train"]
    _check_forbidden(block, known.rows[0])
    encoder = tabular.learn(
        known.rows, block.features, [block.label, *block.forbidden], "classifier"
    )
    _check_leaks(block, encoder, known, run.seed)

    learned, kept = _split(block, known, run.seed)
    if block.logistic_regression is None:
        settings = block.xgboost or XGBoost()
        trees = GrowingTrees.start(encoder, settings, run.seed, learned.rows, learned.truth)
        loop = Loop(run, process, stop, settings.rounds, max(1, settings.rounds // REPORTS))
        scorer: Scorer = _grow(trees, loop)
    else:
        loop = Loop(run, process, stop, 1)
        loop.resume()
        scorer = fit_linear(block.logistic_regression, encoder, learned.rows, learned.truth)
        loop.end_step({}, lambda _folder: None)
    fitted = loop.fitted()
    classes = _classes(block, known.rows)
    model = _calibrated(encoder, scorer, kept, classes)
    return Trained(
        fitted,
        [part.used for part in loaded.values()],
        _evaluate(run, block, model, parts, fitted),
    )


def _labelled(block: Classifier, name: str, rows: list[Row]) -> Labelled:
    truth = np.array([float(checks.class_of(block, row) == block.positive) for row in rows])
    if name == "train":
        checks.both_classes(block, int(truth.sum()), len(rows))
    return Labelled(rows, truth)


def _check_forbidden(block: Classifier, first: Row) -> None:
    """A name that is in no row protects nothing: more likely it is misspelt."""
    for number, name in enumerate(block.forbidden):
        if name not in first:
            raise ConfigInvalidError(
                f"the data has no column {name!r}{hint(name, first)}",
                field=f"classifier.forbidden[{number}]",
            )


def _check_leaks(block: Classifier, encoder: Encoder, known: Labelled, seed: int) -> None:
    """Refuse a column that alone ranks the rows of one half as their classes do.

    A column's values are ranked by what the other half says of them, so that a category with few
    rows does not look like a leak.
    """
    halves = np.array_split(np.random.default_rng([seed, FOLDS]).permutation(len(known.rows)), 2)
    for column in encoder.columns:
        codes = column.codes([row.get(column.name) for row in known.rows])
        for number in range(codes.shape[1]):
            found = _alone(codes[:, number], known.truth, halves)
            if found >= block.leak_auc:
                raise DataInvalidError(
                    f"column {column.name!r} alone has an AUC of {found:.3f}: it says the class "
                    "instead of predicting it; list it in classifier.forbidden, or raise "
                    "classifier.leakAuc",
                    field=f"data column {column.name}",
                )


def _alone(values: Numbers, truth: Numbers, halves: Sequence[Numbers]) -> float:
    ranked = np.zeros(len(values))
    cuts = np.unique(np.nanquantile(values, np.linspace(0, 1, 65)))
    kinds = np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values))
    for here, there in (halves, halves[::-1]):
        total = np.bincount(kinds[there], minlength=len(cuts) + 2)
        hits = np.bincount(kinds[there], weights=truth[there], minlength=len(cuts) + 2)
        prior = truth[there].mean()
        ranked[here] = ((hits + prior) / (total + 1))[kinds[here]]
    found = [scores.auc(ranked[half], truth[half]) for half in halves]
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def _split(block: Classifier, known: Labelled, seed: int) -> tuple[Labelled, Labelled | None]:
    """Return the rows to learn from, and those kept for the calibration."""
    if block.calibration is Calibration.NONE:
        return known, None
    order = np.random.default_rng([seed, CALIBRATION]).permutation(len(known.rows))
    count = max(1, round(len(order) * block.calibration_percent / 100))
    kept, learned = known.part(np.sort(order[:count])), known.part(np.sort(order[count:]))
    for part, truth in (("kept for the calibration", kept.truth), ("left", learned.truth)):
        if truth.sum() in {0, len(truth)}:
            raise DataInvalidError(
                f"the {len(truth)} rows {part} are all of one class: give more rows, or set "
                "classifier.calibration to None",
                field="data[train]",
            )
    return learned, kept


def _grow(trees: GrowingTrees, loop: Loop) -> GrowingTrees:
    if (folder := loop.resume()) is not None:
        trees.resume(folder / CHECKPOINT, loop.step)
    for number in loop.steps():
        trees.grow(number - 1)
        metrics = {"loss": trees.loss()} if loop.reports(number) else {}
        loop.end_step(metrics, lambda folder: trees.save(folder / CHECKPOINT))
    return trees


def _classes(block: Classifier, rows: Sequence[Row]) -> Classes:
    """Name the classes; where several are not the positive one, together they are `not …`."""
    others = {checks.class_of(block, row) for row in rows} - {block.positive}
    negative = others.pop() if len(others) == 1 else f"not {block.positive}"
    return Classes(block.label, block.positive, negative)


def _calibrated(encoder: Encoder, scorer: Scorer, kept: Labelled | None, classes: Classes) -> Model:
    curve = Calibrator() if kept is None else fit_calibrator(scorer.score(kept.rows), kept.truth)
    return Model(encoder, scorer, curve, classes)


def _evaluate(
    run: RunConfig,
    block: Classifier,
    model: Model,
    parts: dict[str, Labelled],
    fitted: Fitted,
) -> Evaluated:
    held_out = parts.get("test") or parts.get("validation")
    if block.folds is not None:
        held_out = parts["train"]
        found = _cross_validated(block, model.encoder, held_out, run.seed)
    elif held_out is not None:
        found = model.probabilities(held_out.rows)
    metrics: list[Metric] = []
    charts = curves(fitted.history, {"loss": "Training loss"})
    if held_out is not None:
        others = {
            name: Model.read(folder).probabilities(held_out.rows)
            for name, folder in references.others(run, Kind.CLASSIFIER)
        }
        metrics, drawn = scores.binary(
            Intervals.of(run), found, held_out.truth, float(parts["train"].truth.mean()), others
        )
        charts += drawn
    shares = model.scorer.importances()
    charts.append(
        bars("importances", "What counts", "share", [(n, s, s, s) for n, s in shares[:SHOWN]])
    )
    table = Table("importances", "What counts", ["column", "share"], shares)

    def write(folder: Path) -> None:
        model.write(folder)

    return Evaluated(metrics, Kind.CLASSIFIER, write, charts=charts, tables=[table])


def _cross_validated(block: Classifier, encoder: Encoder, known: Labelled, seed: int) -> Numbers:
    """Return each row's probability by a model that was learned on the other folds.

    The columns' values and scales are those of all rows, which say nothing of the classes.
    """
    found = np.zeros(len(known.rows))
    for number, (rest, fold) in enumerate(_folds(block.folds or 0, len(known.rows), seed)):
        learned, kept = _split(block, known.part(rest), seed + number)
        scorer: Scorer
        if block.logistic_regression is None:
            settings = block.xgboost or XGBoost()
            trees = GrowingTrees.start(
                encoder, settings, seed + number, learned.rows, learned.truth
            )
            for tree in range(settings.rounds):
                trees.grow(tree)
            scorer = trees
        else:
            scorer = fit_linear(block.logistic_regression, encoder, learned.rows, learned.truth)
        model = _calibrated(encoder, scorer, kept, _classes(block, known.rows))
        found[fold] = model.probabilities([known.rows[n] for n in fold])
    return found


def _folds(count: int, rows: int, seed: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of the rows outside and inside each fold."""
    folds = np.array_split(np.random.default_rng([seed, FOLDS]).permutation(rows), count)
    for fold in folds:
        yield np.setdiff1d(np.arange(rows), fold), np.sort(fold)
