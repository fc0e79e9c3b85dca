"""Decisions in answers are judged by themselves."""

import pytest
from policy_api.v1alpha1.recipes.common import Decision
from policy_trainer import evaluate
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.intervals import Intervals

pytestmark = pytest.mark.trainer

DECISION = Decision(pattern=r"approve: (yes|no)", positive="yes")


def decided(truths, made):
    metrics = evaluate.decided(DECISION, truths, made, Intervals(seed=1))
    return {m.name: m.value for m in metrics}


def test_both_ways_to_be_wrong_are_told_apart():
    truths = ["approve: yes"] * 4 + ["approve: no"] * 5
    made = ["approve: yes"] * 3 + ["approve: no"] * 5 + ["approve: yes"]
    assert decided(truths, made) == pytest.approx(
        {"decision_accuracy": 7 / 9, "decision_fnr": 1 / 4, "decision_fpr": 1 / 5}, abs=1e-5
    )


def test_an_answer_without_a_decision_is_wrong_either_way():
    found = decided(["approve: yes", "approve: no"], ["hm", "hm"])
    assert found == {"decision_accuracy": 0, "decision_fnr": 1, "decision_fpr": 1}


def test_a_rate_of_what_there_is_not_is_left_out():
    assert decided(["approve: yes"], ["approve: yes"]) == {
        "decision_accuracy": 1,
        "decision_fnr": 0,
    }


def test_a_truth_without_a_decision_is_refused():
    with pytest.raises(DataInvalidError, match=r"has no decision: .* not found in 'hm'") as refused:
        decided(["approve: no", "hm"], ["", ""])
    assert refused.value.field == "data[validation] row 2"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(yes", "is not a regular expression"), (r"\(yes\)", "has no group: put what decides")],
)
def test_a_pattern_that_finds_nothing_is_refused(pattern, message):
    with pytest.raises(ConfigInvalidError, match=message):
        evaluate.check_decision(Decision(pattern=pattern), "sft.decision.pattern")
