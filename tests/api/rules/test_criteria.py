"""Exit criteria: what is met, what is not, and the sentence about it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.base import Metric
from policy_api.rules.criteria import confidences, evaluate, summary, wanted
from policy_api.v1alpha1.criteria import ExitCriterion

numbers = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
names = st.sampled_from(["loss", "reward_mean", "margin", "accuracy"])
metrics = st.lists(st.builds(Metric, name=names, value=numbers), max_size=6)


@st.composite
def criteria(draw: st.DrawFn) -> list[ExitCriterion]:
    picked = draw(st.lists(names, max_size=4, unique=True))
    made = []
    for name in picked:
        low, high = sorted((draw(finite), draw(finite)))
        kind = draw(st.sampled_from(["min", "max", "both"]))
        made.append(
            ExitCriterion(
                metric=name,
                min=low if kind != "max" else None,
                max=high if kind != "min" else None,
            )
        )
    return made


@pytest.mark.parametrize(
    ("low", "high", "value", "met"),
    [
        (0.5, None, 0.5, True),
        (0.5, None, 0.49999, False),
        (None, 2.5, 2.5, True),
        (None, 2.5, 2.50001, False),
        (0.1, 0.9, 0.5, True),
        (0.1, 0.9, 0.05, False),
        (0.1, 0.9, 0.95, False),
        (0.0, 0.0, 0.0, True),
        (0.0, None, -0.0, True),
        (None, 1e308, math.inf, False),
        (-1e308, None, -math.inf, False),
        (0.0, None, math.nan, False),
    ],
)
def test_bounds_are_inclusive_and_only_numbers_pass(
    low: float | None, high: float | None, value: float, met: bool
) -> None:
    criterion = ExitCriterion(metric="m", min=low, max=high)
    (verdict,) = evaluate([criterion], [Metric(name="m", value=value)])
    assert verdict.met is met


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (ExitCriterion(metric="m", min=0.15), ">= 0.15"),
        (ExitCriterion(metric="m", max=2.5), "<= 2.5"),
        (ExitCriterion(metric="m", min=0.1, max=0.9), "0.1 … 0.9"),
        (ExitCriterion(metric="m", max=0.0), "<= 0"),
    ],
)
def test_wanted_in_words(criterion: ExitCriterion, words: str) -> None:
    assert wanted(criterion) == words


def test_a_missing_metric_is_named() -> None:
    (verdict,) = evaluate([ExitCriterion(metric="auc", min=0.7)], [Metric(name="loss", value=1)])
    assert not verdict.met
    assert verdict.observed is None
    assert summary([verdict]) == "auc: the trainer reported no metric 'auc', wanted >= 0.7"


def test_a_metric_that_is_no_number_is_told() -> None:
    (verdict,) = evaluate(
        [ExitCriterion(metric="loss", max=2)], [Metric(name="loss", value=math.nan)]
    )
    assert not verdict.met
    assert verdict.observed is None  # NaN is no JSON number and must not reach the status
    assert summary([verdict]) == "loss: the trainer reported nan, wanted <= 2"


def test_summary_has_every_unmet_number_and_no_met_one() -> None:
    verdicts = evaluate(
        [
            ExitCriterion(metric="loss", max=2.5),
            ExitCriterion(metric="reward", min=0.3),
            ExitCriterion(metric="kl", max=1),
        ],
        [
            Metric(name="loss", value=3.25),
            Metric(name="reward", value=0.1),
            Metric(name="kl", value=0.5),
        ],
    )
    assert summary(verdicts) == "loss is 3.25, wanted <= 2.5; reward is 0.1, wanted >= 0.3"


def test_summary_when_all_is_well() -> None:
    assert summary([]) == "no exit criteria set"
    (verdict,) = evaluate([ExitCriterion(metric="m", min=0)], [Metric(name="m", value=1)])
    assert summary([verdict]) == "all 1 exit criteria met"


@given(criteria(), metrics)
def test_verdicts_keep_order_and_fit_json(
    wanted_: list[ExitCriterion], reported: list[Metric]
) -> None:
    verdicts = evaluate(wanted_, reported)
    assert [v.metric for v in verdicts] == [c.metric for c in wanted_]
    for verdict, criterion in zip(verdicts, wanted_, strict=True):
        if verdict.observed is not None:
            assert math.isfinite(verdict.observed)
        if verdict.met:
            assert verdict.observed is not None
            assert criterion.min is None or verdict.observed >= criterion.min
            assert criterion.max is None or verdict.observed <= criterion.max
        else:
            assert verdict.metric in summary(verdicts)


@given(criteria(), metrics)
def test_judging_twice_changes_nothing(
    wanted_: list[ExitCriterion], reported: list[Metric]
) -> None:
    assert evaluate(wanted_, reported) == evaluate(wanted_, reported)


def interval(low: float | None, high: float | None, level: float | None = None) -> Metric:
    return Metric(name="win_rate_delta", value=0.1, low=low, high=high, confidence=level)


@pytest.mark.parametrize(
    ("metric", "fields", "met", "message"),
    [
        (interval(0.01, 0.2), {"lower_bound": 0}, True, ""),
        (interval(0.0, 0.2), {"lower_bound": 0}, False, "the interval is 0 … 0.2"),
        (interval(-0.1, 0.2), {"upper_bound": 0.3}, True, ""),
        (interval(-0.1, 0.2), {"upper_bound": 0.2}, False, "the interval is -0.1 … 0.2"),
        (interval(None, None), {"lower_bound": 0}, False, "the trainer reported no interval"),
        (
            interval(0.01, 0.2),
            {"lower_bound": 0, "confidence": 0.9},
            False,
            "the trainer reported a 95 % interval",
        ),
        (interval(0.01, 0.2, 0.9), {"lower_bound": 0, "confidence": 0.9}, True, ""),
        (interval(0.01, 0.2), {"lower_bound": 0, "min": 0.2}, False, ""),
    ],
)
def test_an_interval_is_judged_by_its_ends_and_its_level(
    metric: Metric, fields: dict[str, float], met: bool, message: str
) -> None:
    criterion = ExitCriterion(metric="win_rate_delta", **fields)
    (verdict,) = evaluate([criterion], [metric])
    assert (verdict.met, verdict.message, verdict.observed) == (met, message, 0.1)


def test_what_is_wanted_of_an_interval_is_said_with_its_level() -> None:
    criterion = ExitCriterion(metric="m", min=0.08, lower_bound=0, confidence=0.9)
    assert wanted(criterion) == ">= 0.08, 90 % interval > 0"
    (verdict,) = evaluate([criterion], [Metric(name="m", value=0.1)])
    assert summary([verdict]) == (
        "m is 0.1 (the trainer reported no interval), wanted >= 0.08, 90 % interval > 0"
    )


@pytest.mark.parametrize(
    ("against", "name"),
    [
        ("", "nrr"),
        ("best-baseline", "nrr_vs_best_baseline"),
        ("version:12", "nrr_vs_version_12"),
    ],
)
def test_a_difference_is_judged_by_a_metric_of_its_own(against: str, name: str) -> None:
    criterion = ExitCriterion(metric="nrr", min=0.03, against=against)
    (verdict,) = evaluate([criterion], [Metric(name=name, value=0.04)])
    assert (verdict.metric, verdict.met) == (name, True)
    assert confidences([criterion]) == {name: 0.95}
