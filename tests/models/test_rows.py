"""From what the log keeps to the rows that a recipe is trained on, as the training checks them."""

import pytest
from policy_api.v1alpha1.recipes.common import Recipe
from policy_models import rows

TEXT = {"decisionId": "d", "prompt": "Score this", "answer": "Score: 7"}
CHAT = {**TEXT, "prompt": [{"role": "user", "content": "Score this"}]}
STEP = {"decisionId": "d", "state": {"a": 1}, "action": "x>y", "propensity": 0.5}
PLAN = {"decisionId": "d", "action": "a plan"}
LIKED, DISLIKED = {"label": "Positive"}, {"label": "Negative"}


def of(recipe, record, **more):
    return list(rows.of(recipe, {**record, **more}))


GOOD = {"prompt": "Score this", "completion": "Score: 7"}
BETTER = {"prompt": "Score this", "completion": "Score: 9"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([], []),
        ([{"text": "hm"}], []),
        ([LIKED], [GOOD | {"label": "good"}]),
        ([LIKED, DISLIKED], [GOOD | {"label": "bad"}]),  # the last word counts
        (
            [{**DISLIKED, "correctedAction": "Score: 9"}],
            [BETTER | {"label": "good"}, GOOD | {"label": "bad"}],
        ),
        (
            [{"correctedAction": "Score: 9"}],
            [BETTER | {"label": "good"}, GOOD | {"label": "bad"}],
        ),
        ([{"correctedAction": "Score: 7"}], [GOOD | {"label": "good"}]),
    ],
)
def test_answers_are_what_people_called_them(said, found):
    by_text = lambda row: row["completion"]  # noqa: E731
    for recipe in (Recipe.DPO, Recipe.REWARD_MODEL):
        assert sorted(of(recipe, TEXT, feedback=said), key=by_text) == sorted(found, key=by_text)
    good = [{"prompt": r["prompt"], "completion": r["completion"]} for r in found]
    wanted = [row for row, r in zip(good, found, strict=True) if r["label"] == "good"]
    assert of(Recipe.SFT, TEXT, feedback=said) == wanted


def test_a_conversation_goes_on_with_its_answer():
    assert of(Recipe.SFT, CHAT, feedback=[LIKED]) == [
        {"messages": [*CHAT["prompt"], {"role": "assistant", "content": "Score: 7"}]}
    ]
    assert of(Recipe.DPO, CHAT, feedback=[LIKED]) == []


def test_a_text_policy_that_was_asked_a_state_was_asked_its_json():
    asked = {"state": {"b": 1, "a": "é"}, "answer": "x", "feedback": [LIKED]}
    assert of(Recipe.SFT, asked) == [{"prompt": '{"a": "é", "b": 1}', "completion": "x"}]


def test_prompts_are_all_that_a_reward_needs():
    assert of(Recipe.GRPO, TEXT) == of(Recipe.PPO, TEXT) == [{"prompt": "Score this"}]
    assert of(Recipe.GRPO, CHAT) == []


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        ({"reward": 1.5}, {"reward": 1.5, "next_state": None, "done": True}),
        (
            {"reward": -1, "nextState": {"a": 2}},
            {"reward": -1, "next_state": {"a": 2}, "done": False},
        ),
        (
            {"reward": 0, "nextState": {"a": 2}, "done": True},
            {"reward": 0, "next_state": {"a": 2}, "done": True},
        ),
    ],
)
def test_a_step_is_a_decision_whose_reward_is_known(outcome, more):
    wanted = {"state": {"a": 1}, "action": ["x", "y"], "propensity": 0.5, **more}
    assert of(Recipe.CQL, STEP, outcome=outcome) == [wanted]
    assert of(Recipe.CQL, {**STEP, "action": "x"}, outcome=outcome)[0]["action"] == "x"


def test_a_step_without_a_reward_teaches_nothing():
    assert of(Recipe.CQL, STEP) == of(Recipe.CQL, STEP, outcome={"success": True}) == []
    assert of(Recipe.CQL, {"prompt": "x"}, outcome={"reward": 1}) == []


def test_a_classifiers_row_has_what_came_of_it():
    found = list(rows.of(Recipe.CLASSIFIER, STEP | {"outcome": {"success": False}}, "churned"))
    assert found == [{"a": 1, "churned": 0}]
    assert of(Recipe.CLASSIFIER, STEP) == []
    assert of(Recipe.CONSTRAINED_PPO, STEP) == [{"a": 1}]


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ({**DISLIKED, "text": "not good"}, {"feedback": "not good", "tags": ["neg"]}),
        ({**LIKED, "text": "fine by me"}, {"feedback": "fine by me", "tags": ["pos"]}),
        ({**LIKED, "text": "wrong"}, {"feedback": "", "tags": ["pos"]}),  # a person's label
        (LIKED, {"feedback": "", "tags": ["pos"]}),
    ],
)
def test_a_plan_is_what_was_said_of_it(said, row):
    assert of(Recipe.PLAN_PREFERENCE, PLAN, feedback=[said]) == [{"plan": "a plan", **row}]
    with_prompt = of(Recipe.PLAN_PREFERENCE, PLAN, prompt="p", feedback=[said])
    assert with_prompt == [{"prompt": "p", "plan": "a plan", **row}]
    assert of(Recipe.PLAN_PREFERENCE, PLAN, feedback=[{"text": "hm"}]) == []
