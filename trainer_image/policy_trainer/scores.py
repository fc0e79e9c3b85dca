"""How good scores of two classes are: AUC, ROC points, calibration. Pure numpy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from policy_api.base import Metric
from policy_api.rules import criteria

from policy_trainer.figures import Chart, ChartKind, Series
from policy_trainer.intervals import Intervals

BINS = 15  # of equal mass, for the calibration error
POINTS = 200  # of a drawn curve at most

HALF = 0.5  # likelier than not

Numbers = Any  # numpy.ndarray, one number a row


def binary(
    intervals: Intervals,
    found: Numbers,
    truth: Numbers,
    share: float,
    others: Mapping[str, Numbers],
) -> tuple[list[Metric], list[Chart]]:
    """Return the metrics and charts of probabilities of two classes.

    Args:
        intervals: Makes the metrics.
        found: The probability of the positive class of each row.
        truth: 1 or 0, a row each.
        share: Of positives in the training data; the baseline always says its majority.
        others: What other versions found, by `version:<N>`.
    """
    order = np.argsort(found, kind="stable")  # a resample of sorted rows is sorted: see statistic
    found, truth = found[order], truth[order]
    others = {name: theirs[order] for name, theirs in others.items()}
    right = _right(found, truth)
    majority = _right(np.full(len(truth), share), truth)
    loss = log_loss(found, truth)
    metrics = [
        intervals.mean("accuracy", right),
        intervals.statistic("auc", auc, found, truth),
        intervals.statistic("ece", ece, found, truth),
        intervals.mean("log_loss", loss),
        intervals.mean("accuracy_baseline_majority", majority),
        intervals.mean(criteria.versus("accuracy", criteria.BEST_BASELINE), right - majority),
    ]
    for name, theirs in others.items():
        metrics += [
            intervals.mean(criteria.versus("accuracy", name), right - _right(theirs, truth)),
            intervals.statistic(criteria.versus("auc", name), _auc_gain, found, theirs, truth),
            intervals.mean(criteria.versus("log_loss", name), loss - log_loss(theirs, truth)),
        ]
    return metrics, [roc_chart(found, truth), reliability_chart(found, truth)]


def _right(found: Numbers, truth: Numbers) -> Numbers:
    return ((found >= HALF) == (truth > 0)).astype(float)


def _auc_gain(found: Numbers, theirs: Numbers, truth: Numbers) -> float:
    return auc(found, truth) - auc(theirs, truth)


def auc(scores: Numbers, labels: Numbers) -> float:
    """Return the area under the ROC curve: how often a positive outranks a negative; ties half.

    NaN when there is only one class (Mann and Whitney 1947).
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    order = np.argsort(scores, kind="stable")  # fast on what is sorted, see binary
    ordered, hits = scores[order], labels[order] > 0
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ties = np.diff(np.append(firsts, len(ordered)))
    ranks = float((np.add.reduceat(hits, firsts, dtype=float) * (firsts + (ties + 1) / 2)).sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(probabilities: Numbers, labels: Numbers) -> Numbers:
    """Return each row's negative log-likelihood, in nats; certainty is capped at 1e-7."""
    capped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.where(labels > 0, np.log(capped), np.log1p(-capped))


def bins(probabilities: Numbers, labels: Numbers) -> Numbers:
    """Return (mean probability, share of positives, rows) of each of 15 bins of equal mass."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return np.array([(probabilities[p].mean(), labels[p].mean(), len(p)) for p in parts])


def ece(probabilities: Numbers, labels: Numbers) -> float:
    """Return the expected calibration error: the bins' mean gap, weighted by their rows.

    Equal-mass bins (Nixon et al. 2019): with bins of equal width, most rows fall into a few.
    """
    table = bins(probabilities, labels)
    return float(np.average(np.abs(table[:, 0] - table[:, 1]), weights=table[:, 2]))


def roc_chart(scores: Numbers, labels: Numbers) -> Chart:
    """Return the ROC curve."""
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([[0], np.cumsum(labels[order] > 0)])
    misses = np.arange(len(hits)) - hits
    shown = np.unique(np.linspace(0, len(hits) - 1, POINTS).astype(int))
    x = (misses[shown] / max(1, misses[-1])).tolist()
    y = (hits[shown] / max(1, hits[-1])).tolist()
    series = [Series("model", x, y), Series("chance", [0.0, 1.0], [0.0, 1.0])]
    return Chart("roc", "ROC", "false-positive rate", "true-positive rate", series, ChartKind.LINE)


def reliability_chart(probabilities: Numbers, labels: Numbers) -> Chart:
    """Return the reliability curve: what was predicted, and how often it was so."""
    table = bins(probabilities, labels)
    series = [
        Series("model", table[:, 0].tolist(), table[:, 1].tolist()),
        Series("perfect", [0.0, 1.0], [0.0, 1.0]),
    ]
    return Chart("reliability", "Reliability", "predicted probability", "share that is", series)
