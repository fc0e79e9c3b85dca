"""An answer's reward is the sum of its declared terms."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from policy_api.v1alpha1.training import PolicyTrainingSpec, Reward
from policy_trainer import rewards
from policy_trainer.errors import ConfigInvalidError

EXAMPLE = Path(__file__).parents[2] / "examples" / "review-forge"


def spec(path: str) -> PolicyTrainingSpec:
    return PolicyTrainingSpec.model_validate(yaml.safe_load((EXAMPLE / path).read_text())["spec"])


def reward(**fields):
    return Reward.model_validate({"name": "x", "weight": 1.0, **fields})


REVIEW_FORGE = spec("training/training-grpo.yaml").grpo.rewards
DIMENSIONS = "Clarity Completeness Actionability Constructiveness"
PADDING = "." * 100


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("", -0.3),
        ("LGTM", -0.3),
        (PADDING, 0.0),
        ("." * 99, -0.3),
        (f"Score: 7 {PADDING}", 0.3),
        (f"score: 7 {PADDING}", 0.0),
        (f"Clarity {PADDING}", 0.1),
        (f"Clarity Completeness {PADDING}", 0.2),
        (f"{DIMENSIONS} {PADDING}", 0.4),
        (f"Clarity Clarity Clarity {PADDING}", 0.1),
        (f"I recommend a test. {PADDING}", 0.2),
        (f"Recommendation: add a test. {PADDING}", 0.2),
        (f"You should consider it, I suggest. {PADDING}", 0.2),
        (f"The shoulder is fine. {PADDING}", 0.2),  # begins like `should`: as declared
        (f"Score: 7 {DIMENSIONS}", 0.3 + 0.4 - 0.3),
        (f"Score: 7 {DIMENSIONS} {PADDING}", 0.7),
        (f"Score: 7 {DIMENSIONS} Recommendation: test it. {PADDING}", 0.9),
    ],
)
def test_the_review_forge_reward_is_the_one_that_was_asked_for(answer, wanted):
    assert rewards.total(REVIEW_FORGE, answer) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("term", "answer", "wanted"),
    [
        (reward(contains=["a", "b"]), "a b", 1),
        (reward(contains=["a", "b"]), "a", 0),
        (reward(containsAny=["a", "b"]), "b", 1),
        (reward(containsAny=["a", "b"]), "c", 0),
        (reward(regex=r"\d+"), "no 7", 1),
        (reward(regex=r"^\d+"), "no 7", 0),
        (reward(length={"min": 3}), "abc", 1),
        (reward(length={"min": 3}), "ab", 0),
        (reward(length={"max": 3}), "abc", 1),
        (reward(length={"max": 3}), "abcd", 0),
        (reward(length={"min": 2, "max": 3}), "a", 0),
        (reward(length={"target": 10}), "", 0),
        (reward(length={"target": 10}), "abcde", 0.5),
        (reward(length={"target": 10}), "a" * 30, 1),
        (reward(weight=-0.3, length={"max": 99}), "short", -0.3),
    ],
)
def test_each_kind_of_term(term, answer, wanted):
    assert rewards.term(term, answer) == pytest.approx(wanted)


@given(st.text())
def test_a_review_forge_reward_stays_in_its_range(answer):
    assert -0.3 <= rewards.total(REVIEW_FORGE, answer) <= 0.9 + 1e-9


def test_trl_gets_one_named_function_a_term_for_texts_and_for_chats():
    function = rewards.function(reward(name="says-a", contains=["a"]))
    assert function.__name__ == "says-a"
    assert function(completions=["a", "b"], prompts=["p", "q"]) == [1, 0]
    assert function(completions=[[{"role": "assistant", "content": "a"}]]) == [1]


def test_a_regular_expression_that_does_not_compile_names_its_term():
    with pytest.raises(ConfigInvalidError, match=r"reward x: .* is not a regular expression") as e:
        rewards.check([reward(contains=["a"]), reward(regex="(")])
    assert e.value.field == "grpo.rewards[1].regex"


@pytest.mark.parametrize(
    "path", ["training/training-sft.yaml", "training/training-grpo.yaml", "bad/training-bad.yaml"]
)
def test_the_examples_manifests_are_valid_and_share_one_answer_schema(path):
    assert spec(path).answer_schema == spec("training/training-sft.yaml").answer_schema
