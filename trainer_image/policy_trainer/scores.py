"""How good scores of two classes are: AUC, ROC points, calibration. Pure numpy and scipy."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

from policy_trainer.figures import Chart, ChartKind, Series

BINS = 15  # of equal mass, for the calibration error
POINTS = 200  # of a drawn curve at most

Numbers = Any  # numpy.ndarray, one number a row


def auc(scores: Numbers, labels: Numbers) -> float:
    """Return the area under the ROC curve: how often a positive outranks a negative; ties half.

    NaN when there is only one class (Mann and Whitney 1947).
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels > 0].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


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
