"""Metrics with intervals: of the right level, of pairs, and they cover."""

import pytest
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.intervals import Intervals
from trainer.worlds import config

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.trainer


def test_the_level_is_the_one_that_a_criterion_asks_for(tmp_path):
    criteria = [
        {"metric": "loss", "max": 1, "confidence": 0.8},
        {"metric": "nrr", "lowerBound": 0, "confidence": 0.99, "against": "best-baseline"},
    ]
    intervals = Intervals.of(config(tmp_path, "uid", exitCriteria=criteria))
    numbers = np.random.default_rng(1).normal(size=200)
    narrow, plain = intervals.mean("loss", numbers), intervals.mean("other", numbers)
    wide = intervals.mean("nrr_vs_best_baseline", numbers)
    assert (narrow.confidence, plain.confidence, wide.confidence) == (0.8, None, 0.99)
    assert wide.low < plain.low < narrow.low < narrow.value < narrow.high < plain.high < wide.high


def test_pairs_have_a_narrow_difference():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 10, size=300)
    before, after = hard + rng.normal(0, 0.1, size=300), hard + 0.5
    _, _, delta = Intervals(7).compare("loss", after, before)
    assert delta.name == "loss_delta"
    assert 0.4 < delta.low < delta.value < delta.high < 0.6


def test_intervals_of_a_mean_cover_it_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    trials = 200
    hits = 0
    for trial in range(trials):
        metric = Intervals(trial).mean("m", rng.exponential(size=100))
        hits += metric.low <= 1.0 <= metric.high
    assert 0.88 <= hits / trials <= 0.99


def test_a_statistic_leaves_out_resamples_where_it_is_undefined():
    def ratio(x, y):
        return float("nan") if y.sum() == 0 else float(x.sum() / y.sum())

    x, y = np.ones(5), np.array([1.0, 0, 0, 0, 0])
    metric = Intervals(1).statistic("ratio", ratio, x, y)
    assert metric.value == 5
    assert metric.low <= 5 <= metric.high


def test_a_number_that_is_not_finite_says_that_training_has_diverged():
    with pytest.raises(ConfigInvalidError, match="the training has diverged; lower learningRate"):
        Intervals(1).mean("loss", np.array([1.0, np.nan]))
