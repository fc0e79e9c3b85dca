"""What answers in a policy's place: what each baseline takes, and which policy can have which."""

from typing import Any

import pytest
from policy_api.v1alpha1.serving import Baseline, RuleCondition
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.answers import AnswerCheck
from policy_models.baselines import (
    ByHistory,
    Record,
    UnavailableError,
    allowed_of,
    best,
    frequency,
    holds,
    open_baseline,
    success,
)
from policy_models.decision import Decision, Question, Refusal, Request

from models import golden

STATE = {"task": "page", "languages": ["py"], "success_rate": 0.4}
HISTORY = {"a": Record(100, 40), "b": Record(10, 9), "c": Record(1, 1)}
NO_SCHEMA = AnswerCheck(AnswerSchema())


class Writer:
    """A text policy, as far as a baseline sees it."""

    slow = True

    def decide(self, requests: Any) -> Any:
        raise AssertionError("a baseline never asks the model")

    def example(self) -> Request:
        return Request(question=Question(prompt="Hello"))

    def inputs(self) -> dict[str, Any]:
        return {"prompt": "a text"}


def opened(policy: Any, check: AnswerCheck = NO_SCHEMA, **wanted: Any):
    return open_baseline(
        Baseline.model_validate(wanted), policy, check, writes=isinstance(policy, Writer)
    )


def taken(found: Decision | None) -> list[tuple[str, float | None]]:
    assert found is not None
    return [(option.action, option.probability) for option in found.ranking]


def test_at_random_every_allowed_action_is_as_likely():
    chooser = opened(golden.opened("QNetwork"), strategy="Random")
    found = taken(chooser.choose(Request(), ("a", "b", "c", "d")))
    assert found == [(name, 0.25) for name in "abcd"]
    assert chooser.choose(Request(), ()) is None


@pytest.mark.parametrize(
    ("score", "allowed", "order"),
    [(frequency, "abc", "abc"), (success, "abc", "bca"), (success, "ac", "ca")],
)
def test_by_history_the_best_of_the_allowed_is_taken(score, allowed, order):
    found = taken(ByHistory(HISTORY, score).choose(Request(), tuple(allowed)))
    assert found == [(name, float(rank == 0)) for rank, name in enumerate(order)]


def test_one_try_is_not_certain_and_what_was_never_tried_is_even():
    assert success(Record(1, 1)) == pytest.approx(2 / 3)
    assert success(Record(0, 0)) == 0.5
    assert best([Record(3, 0), Record(3, 0)], frequency) == 0
    (option, *_) = ByHistory({}, frequency).choose(Request(), ("x",)).ranking
    assert (option.score, option.confidence) == (0, 0.5)


@pytest.mark.parametrize("strategy", ["MostFrequent", "HighestSuccess"])
def test_an_artifact_of_cql_has_the_history(strategy):
    policy = golden.opened("QNetwork")
    chooser = opened(policy, strategy=strategy)
    request = Request(state=STATE)
    found = chooser.choose(request, allowed_of(policy, request))
    by = {"MostFrequent": frequency, "HighestSuccess": success}[strategy]
    assert found.ranking[0].action == max(policy.history, key=lambda a: by(policy.history[a]))


@pytest.mark.parametrize(
    ("operator", "told", "cell", "expected"),
    [
        ("In", ["page", "api"], "page", True),
        ("In", ["api"], "page", False),
        ("In", ["py"], ["go", "py"], True),
        ("In", ["true"], True, True),
        ("In", ["3"], 3, True),
        ("In", ["page"], None, False),
        ("NotIn", ["page"], None, True),
        ("NotIn", ["py"], ["go", "py"], False),
        ("LessThan", 3, 2.5, True),
        ("LessThan", 3, 3, False),
        ("AtMost", 3, 3, True),
        ("AtLeast", 3, 3, True),
        ("MoreThan", 3, 3, False),
        ("MoreThan", 3, 4, True),
        ("LessThan", 3, None, False),
        ("MoreThan", 3, None, False),
        ("AtMost", 3, "many", False),
    ],
)
def test_a_condition_looks_at_one_feature(operator, told, cell, expected):
    limit = {"values": told} if isinstance(told, list) else {"value": told}
    condition = RuleCondition.model_validate({"feature": "x", "operator": operator, **limit})
    assert holds(condition, {"x": cell}) is expected
    if cell is None:
        assert holds(condition, {}) is expected, "absent is as not known"


def test_a_rule_takes_the_first_case_that_holds_and_is_allowed():
    policy = golden.opened("QNetwork")
    first, second, third = policy.actions[:3]
    low = {"feature": "success_rate", "operator": "AtMost", "value": 0.5}
    page = {"feature": "task", "operator": "In", "values": ["page"]}
    cases = [{"when": [low, page], "action": first}, {"when": [page], "action": second}]
    chooser = opened(policy, strategy="Rule", rule={"cases": cases, "action": third})
    for state, allowed, expected in (
        (STATE, policy.actions, first),
        ({**STATE, "success_rate": 0.9}, policy.actions, second),
        ({**STATE, "task": "api"}, policy.actions, third),
        (STATE, (second, third), second),
        (STATE, (third,), third),
    ):
        assert taken(chooser.choose(Request(state=state), allowed)) == [(expected, 1.0)]
    assert chooser.choose(Request(state=STATE), ("none of them",)) is None


def test_a_text_policy_has_one_fixed_answer():
    chooser = opened(Writer(), strategy="Rule", rule={"answer": "Score: 50"})
    asked = Request(question=Question(prompt="x"))
    assert allowed_of(Writer(), asked) == ()
    assert taken(chooser.choose(asked, ())) == [("Score: 50", 1.0)]
    assert chooser.choose(Request(question=Question(prompt="x"), candidates=("a",)), ("a",)) is None


@pytest.mark.parametrize(
    ("policy", "wanted", "said"),
    [
        ("Classifier", {"strategy": "MostFrequent"}, "lacks: use strategy Random or Rule"),
        ("OfferPolicy", {"strategy": "HighestSuccess"}, "needs a record of what the training data"),
        (None, {"strategy": "HighestSuccess"}, "use strategy Rule with an answer"),
        (None, {"strategy": "Random"}, "needs actions to choose from"),
        ("QNetwork", {"strategy": "Rule", "rule": {"answer": "x"}}, "set baseline.rule.action"),
        ("PlanPreference", {"strategy": "Rule", "rule": {"action": "x"}}, "actions of their own"),
        (
            "QNetwork",
            {"strategy": "Rule", "rule": {"action": "backed"}},
            "names the action 'backed', which the policy does not have, did you mean 'backend'?",
        ),
        (
            "QNetwork",
            {
                "strategy": "Rule",
                "rule": {
                    "cases": [
                        {
                            "when": [{"feature": "tusk", "operator": "In", "values": ["x"]}],
                            "action": "backend",
                        }
                    ],
                    "action": "backend",
                },
            },
            "names the feature 'tusk', which the policy does not have, did you mean 'task'?",
        ),
    ],
)
def test_what_a_policy_can_not_have_is_one_sentence(policy, wanted, said):
    with pytest.raises(UnavailableError) as error:
        opened(Writer() if policy is None else golden.opened(policy), **wanted)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fixed_answer_keeps_the_schema():
    check = AnswerCheck(AnswerSchema(patterns=[r"Score: \d+"]))
    with pytest.raises(UnavailableError, match="breaks the policy's answerSchema: the answer does"):
        opened(Writer(), check, strategy="Rule", rule={"answer": "a good one"})


@pytest.mark.parametrize("kind", golden.KINDS)
def test_what_is_allowed_is_what_the_policy_ranks(kind):
    policy = golden.opened(kind)
    for pair in golden.kept(kind):
        request = golden.asked(pair["request"])
        (outcome,) = policy.decide([request])
        allowed = allowed_of(policy, request)
        if isinstance(outcome, Refusal):
            assert allowed == outcome or kind == "PlanPreference"
        else:
            assert set(allowed) == {option.action for option in outcome.ranking}
