"""PlanPreference: learn from feedback which plans people like (bag of words, logistic loss).

Rows are `{prompt, plan, feedback, tags}`: what people said of a plan becomes its label
(feedback.py); rows that say neither are left out and counted. Adam (Kingma and Ba 2015) on
minibatches, whose order depends on the seed and the epoch alone.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference
from policy_models.plan_preference import FILE, PreferenceModel, words

from policy_trainer import checks, data, references, scores
from policy_trainer.bag_of_words import matrix, vocabulary
from policy_trainer.data import Row
from policy_trainer.figures import Chart, Table, curves
from policy_trainer.intervals import Intervals
from policy_trainer.loop import Loop, load_state, save_state
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

BATCH = 256  # plans of a step of Adam
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as its paper recommends
TOP = 15  # words of each sign in the report

log = logging.getLogger(__name__)


def train(run: RunConfig, block: PlanPreference, process: Process, stop: StopRequest) -> Trained:
    """Train and evaluate; one step of the run is an epoch.

    Metrics on `test`, else on `validation`: `accuracy`, `auc`, `log_loss` (nats),
    `accuracy_baseline_majority` and `accuracy_vs_best_baseline`.
    """
    loaded = data.load_all(run, checks.of(run))
    labelled = {name: _labelled(name, part.rows) for name, part in loaded.items()}
    bags = [words(row["plan"]) for row in labelled["train"]]
    known = vocabulary(bags, block.max_vocabulary)
    index = {word: column for column, word in enumerate(known)}
    liked = np.array([row["liked"] for row in labelled["train"]], dtype=float)

    loop = Loop(run, process, stop, block.epochs)
    state: dict[str, Any] = {name: np.zeros(len(known) + 1) for name in ("weights", "m", "v")}
    state["count"] = 0
    if (folder := loop.resume()) is not None:
        saved = load_state(folder, process)
        state = {k: np.array(v) if isinstance(v, list) else v for k, v in saved.items()}
    features = matrix(bags, index)
    for epoch in loop.steps():
        order = np.random.default_rng([run.seed, epoch]).permutation(len(bags))
        loss = _epoch(features, liked, order, state, block.learning_rate)

        def write(folder: Path, now: dict[str, Any] = state) -> None:
            plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in now.items()}
            save_state(folder, process, plain)

        loop.end_step({"loss": loss}, write)
    weights = state["weights"]
    model = PreferenceModel(
        {word: float(weights[column]) for word, column in index.items()}, float(weights[-1])
    )
    fitted = loop.fitted()
    used = [part.used for part in loaded.values()]
    held_out = labelled.get("test") or labelled.get("validation") or []
    evaluated = _evaluate(run, model, held_out, float(liked.mean()))
    evaluated.charts.extend(curves(fitted.history, {"loss": "Training loss"}))
    return Trained(fitted, used, evaluated)


def _labelled(name: str, rows: list[Row]) -> list[Row]:
    """Leave out rows that say neither; training needs both kinds."""
    kept = [row for row in rows if row["liked"] is not None]
    if len(kept) < len(rows):
        log.info("%s: %d rows say neither good nor bad, left out", name, len(rows) - len(kept))
    if name == "train":
        checks.both_judgements(sum(row["liked"] for row in kept), len(kept))
    return kept


def _evaluate(
    run: RunConfig, model: PreferenceModel, held_out: list[Row], liked_share: float
) -> Evaluated:
    """Score held-out plans, beside the guess that people always say what most of them said."""
    metrics: list[Metric] = []
    charts: list[Chart] = []
    if held_out:
        intervals = Intervals.of(run)
        truth = np.array([row["liked"] for row in held_out], dtype=float)
        found = _scores(model, held_out)
        others = {
            name: _scores(PreferenceModel.read(folder), held_out)
            for name, folder in references.others(run, Kind.PLAN_PREFERENCE)
        }
        metrics, charts = scores.binary(intervals, found, truth, liked_share, others)
    ordered = sorted(model.weights.items(), key=lambda item: -item[1])
    extremes = ordered[:TOP] + ordered[max(TOP, len(ordered) - TOP) :]
    table = Table("words", "Words that people like and dislike most", ["word", "weight"], extremes)

    def write(folder: Path) -> None:
        (folder / FILE).write_text(model.encode())

    return Evaluated(metrics, Kind.PLAN_PREFERENCE, write, charts=charts, tables=[table])


def _scores(model: PreferenceModel, rows: list[Row]) -> Any:
    return np.array([model.score(row["plan"]) for row in rows])


def _epoch(features: Any, liked: Any, order: Any, state: dict[str, Any], rate: float) -> float:
    """Pass over the plans once, changing the state; return the mean loss, in nats."""
    weights, m, v = state["weights"], state["m"], state["v"]
    total = 0.0
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        chosen, truth = features[rows], liked[rows]
        found = 1 / (1 + np.exp(-(chosen @ weights[:-1] + weights[-1])))
        total += float(scores.log_loss(found, truth).sum())
        error = (found - truth) / len(rows)
        gradient = np.append(chosen.T @ error, error.sum())
        state["count"] += 1
        m += (1 - BETA1) * (gradient - m)
        v += (1 - BETA2) * (gradient**2 - v)
        unbiased = m / (1 - BETA1 ** state["count"])
        weights -= rate * unbiased / (np.sqrt(v / (1 - BETA2 ** state["count"])) + EPSILON)
    return total / len(order)
