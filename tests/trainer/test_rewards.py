"""An answer's reward is the sum of its declared terms."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.rewards import Reward
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_trainer import rewards
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.process import Process

EXAMPLE = Path(__file__).parents[2] / "examples" / "review-forge"


def spec(path: str) -> PolicyTrainingSpec:
    return PolicyTrainingSpec.model_validate(yaml.safe_load((EXAMPLE / path).read_text())["spec"])


def reward(**fields):
    return Reward.model_validate({"name": "x", "weight": 1.0, **fields})


def prepared(*terms):
    run = RunConfig.model_construct(references=())
    return rewards.Rewards(run, terms, "grpo.rewards", Process(0, 0, 1, on_gpu=False))


def total(terms, answer):
    return prepared(*terms).totals(["?"], [answer])[0]


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
    assert total(REVIEW_FORGE, answer) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("term", "answer", "wanted"),
    [
        (reward(contains=["a", "b"]), "a b", 1),
        (reward(contains=["a", "b"]), "a", 0),
        (reward(containsAny=["a", "b"]), "b", 1),
        (reward(containsAny=["a", "b"]), "c", 0),
        (reward(regex=r"\d+"), "no 7", 1),
        (reward(regex=r"^\d+"), "no 7", 0),
        (reward(forbidden=["kill", "bomb$"]), "a bombastic day", 1),
        (reward(forbidden=["kill", "bomb$"]), "it was the bomb", 0),
        (reward(weight=-1, forbidden=["kill"]), "be kind", -1),
        (reward(length={"min": 3}), "abc", 1),
        (reward(length={"min": 3}), "ab", 0),
        (reward(length={"max": 3}), "abc", 1),
        (reward(length={"max": 3}), "abcd", 0),
        (reward(length={"min": 2, "max": 3}), "a", 0),
        (reward(length={"target": 10}), "", 0),
        (reward(length={"target": 10}), "abcde", 0.5),
        (reward(length={"target": 10}), "a" * 30, 1),
        (reward(length={"under": 10}), "", 1),
        (reward(length={"under": 10}), "abcde", 0.5),
        (reward(length={"under": 10}), "a" * 30, 0),
        (reward(weight=-0.3, length={"max": 99}), "short", -0.3),
    ],
)
def test_each_kind_of_term(term, answer, wanted):
    assert total([term], answer) == pytest.approx(wanted)


@given(st.text())
def test_a_review_forge_reward_stays_in_its_range(answer):
    assert -0.3 <= total(REVIEW_FORGE, answer) <= 0.9 + 1e-9


def test_trl_gets_one_named_function_a_term_for_texts_and_for_chats():
    (function,) = prepared(reward(name="says-a", contains=["a"])).functions()
    assert function.__name__ == "says-a"
    assert function(completions=["a", "b"], prompts=["p", "q"], other=[1, 2]) == [1, 0]
    chats = [
        [{"role": role, "content": text}] for role, text in (("assistant", "a"), ("user", "p"))
    ]
    assert function(completions=chats[:1], prompts=chats[1:]) == [1]


FUNCTIONS = """
seen = []

def half(prompts, completions):
    seen.extend(zip(prompts, completions))
    return [len(c) / 2 for c in completions]

def raises(prompts, completions):
    return [c.index("?") for c in completions]

def short(prompts, completions):
    return [1.0]

def nothing(prompts, completions):
    pass

def words(prompts, completions):
    return completions

def unknown(prompts, completions):
    return [float("nan") for _ in completions]
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "functions_of_a_user.py").write_text(FUNCTIONS)
    (tmp_path / "broken_of_a_user.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("functions")
def test_a_function_of_the_users_gets_texts_and_its_numbers_are_weighted():
    term = reward(weight=3, function="functions_of_a_user:half")
    both = prepared(term, reward(name="y", weight=1, contains=["long"]))
    assert both.totals(["p", "q"], ["a", "long"]) == [1.5, 7]
    import functions_of_a_user  # noqa: PLC0415 - made by the fixture

    assert functions_of_a_user.seen == [("p", "a"), ("q", "long")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raised ValueError: substring not found"),
        ("short", "returned 1 numbers for 2 answers"),
        ("nothing", "returned something else than numbers: 'NoneType' object is not iterable"),
        ("words", "returned something else than numbers: could not convert string to float: 'a'"),
        ("unknown", "returned nan for 'a'"),
    ],
)
@pytest.mark.usefixtures("functions")
def test_a_function_that_fails_is_named(name, message):
    name = f"functions_of_a_user:{name}"
    with pytest.raises(ConfigInvalidError) as refused:
        prepared(reward(weight=2, function=name)).totals(["p", "q"], ["a", "b"])
    assert str(refused.value) == f"reward x: {name} {message}"
    assert refused.value.field == "grpo.rewards[0].function"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("functions_of_a_user:missing", "AttributeError: module .* has no attribute 'missing'"),
        ("broken_of_a_user:half", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("no_module_of_a_user:half", "No module named 'no_module_of_a_user'"),
    ],
)
@pytest.mark.usefixtures("functions")
def test_a_function_that_cannot_be_imported_is_refused_before_the_training(name, message):
    with pytest.raises(ConfigInvalidError, match=f"reward x: cannot import {name}: .*{message}"):
        prepared(reward(function=name))


@pytest.mark.parametrize("kind", ["regex", "forbidden"])
def test_a_regular_expression_that_does_not_compile_names_its_term(kind):
    bad = reward(**{kind: "(" if kind == "regex" else ["a", "("]})
    with pytest.raises(ConfigInvalidError, match=r"reward x: .* is not a regular expression") as e:
        prepared(reward(contains=["a"]), bad)
    assert e.value.field == f"grpo.rewards[1].{kind}"


def test_a_judge_must_know_the_criterion():
    with pytest.raises(
        ConfigInvalidError, match=r"reward x: name it in judge\.criteria"
    ) as unknown:
        prepared(reward(judge="clear"))
    assert unknown.value.field == "grpo.rewards[0].judge"


def test_a_reward_model_must_be_named():
    with pytest.raises(ConfigInvalidError, match=r"reward x: name one in referenceModels\.reward"):
        prepared(reward(model="reward"))


@pytest.mark.parametrize(
    "path", ["training/training-sft.yaml", "training/training-grpo.yaml", "bad/training-bad.yaml"]
)
def test_the_examples_manifests_are_valid_and_share_one_answer_schema(path):
    assert spec(path).answer_schema == spec("training/training-sft.yaml").answer_schema
