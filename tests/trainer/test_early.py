"""A run ends early when a metric of its own is out of bounds so many reports in a row."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.v1alpha1.criteria import StopRule
from policy_trainer.early import EarlyStop


def stopped_at(values, **rule):
    """The number of the report that ended it, from 0; None: it never ended."""
    early = EarlyStop([StopRule(metric="kl", **rule)])
    for number, value in enumerate(values):
        early.see({"kl": value} if value is not None else {"loss": 1.0})
        if early.reason:
            return number
    return None


@pytest.mark.parametrize(
    ("values", "rule", "wanted"),
    [
        ([0.5, 1.6], {"max": 1.5}, 1),
        ([1.5, 1.5], {"max": 1.5}, None),
        ([1.6, 1.6, 1.6], {"max": 1.5, "patience": 3}, 2),
        ([1.6, 1.6, 1.0, 1.6, 1.6], {"max": 1.5, "patience": 3}, None),
        ([1.6, None, 1.6], {"max": 1.5, "patience": 2}, 2),
        ([0.2, 0.05], {"min": 0.1}, 1),
        ([0.2, 0.9], {"min": 0.1, "max": 0.8}, 1),
        ([math.nan], {"max": 1.5}, 0),
    ],
)
def test_when_it_ends(values, rule, wanted):
    assert stopped_at(values, **rule) == wanted


def test_the_sentence_names_metric_bounds_and_value():
    early = EarlyStop([StopRule(metric="kl", max=1.5, patience=2)])
    early.see({"kl": 2.0})
    early.see({"kl": 2.25})
    assert early.reason == (
        "stopped early: kl was out of bounds (max 1.5) 2 times in a row, now 2.25"
    )


@given(st.lists(st.floats(0, 2), max_size=30), st.integers(1, 4))
def test_it_ends_exactly_when_the_last_reports_were_all_out(values, patience):
    found = stopped_at(values, max=1.0, patience=patience)
    outs = [
        n
        for n in range(patience - 1, len(values))
        if all(v > 1.0 for v in values[n - patience + 1 : n + 1])
    ]
    assert found == (outs[0] if outs else None)
