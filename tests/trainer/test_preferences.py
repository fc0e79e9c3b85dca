"""DPO and RewardModel learn from pairs, stop and go on exactly; GRPO follows a reward model."""

import json
from pathlib import Path

import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from trainer.worlds import StopAt, config, grpo, preference, preferences, reference, sha256

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

RECIPES = ("DPO", "RewardModel")


def wanted(root, uid, recipe, block=None, **changes):
    fields = {**preference(recipe, **(block or {})), "data": preferences(root)}
    return config(root, uid, **{**fields, **changes})


def manifest(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


@pytest.fixture(scope="module")
def preferred(tmp_path_factory):
    return tmp_path_factory.mktemp("preferred")


@pytest.fixture
def reward_model(preferred, attempt):
    """A folder with an accepted reward model, and its report; trained once."""
    report = attempt(wanted(preferred, "reward", "RewardModel", block={"maxSteps": 60}))
    return preferred / "policies" / "review-forge" / "1", report


def reward_role(folder):
    return {"name": "reward", "artifact": reference(folder)}


def test_dpo_learns_to_prefer_and_stays_a_model_that_is_served(attempt, tmp_path):
    report = attempt(wanted(tmp_path, "dpo", "DPO", block={"maxSteps": 40}))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["eval_margin"].low > 0.1, report.metrics
    assert metrics["eval_accuracy"].value == 1
    assert metrics["eval_loss"].high < 0.69
    folder, made = manifest(tmp_path, 1)
    assert made.kind == "CausalLM"
    assert (folder / "model.safetensors").exists()


def test_a_reward_model_tells_better_answers_from_worse_ones(reward_model):
    folder, report = reward_model
    metrics = {metric.name: metric for metric in report.metrics}
    if report.step is not None:
        assert metrics["eval_accuracy"].low > 0.9, report.metrics
    assert metrics["eval_auc"].value > 0.9
    assert metrics["eval_accuracy_baseline_length"].value == pytest.approx(0.75)
    assert 0 <= metrics["eval_ece"].value < 0.3
    made = PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())
    assert made.kind == "RewardModel"
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]


def test_a_reward_model_serves_what_was_judged(reward_model, preferred):
    from policy_models.decision import Question, Refusal, Request  # noqa: PLC0415 - with torch
    from policy_models.policy import open_policy  # noqa: PLC0415

    folder, report = reward_model
    made = PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())
    policy = open_policy(folder, made)
    held_out = next(d for d in preferences(preferred) if d["name"] == "validation")["path"]
    rows = [json.loads(line) for line in Path(held_out).read_text().splitlines()]
    asked = [
        Request(question=Question(row["prompt"]), candidates=(row["rejected"], row["chosen"]))
        for row in rows
    ]
    found = policy.decide(asked)
    right = [f.ranking[0].action == row["chosen"] for f, row in zip(found, rows, strict=True)]
    wanted_accuracy = {metric.name: metric.value for metric in report.metrics}["eval_accuracy"]
    assert sum(right) / len(right) == pytest.approx(wanted_accuracy, abs=1e-6)
    for one in found:
        assert sum(option.confidence for option in one.ranking) == pytest.approx(1)
    assert not isinstance(policy.decide([policy.example()])[0], Refusal)
    refused, far = policy.decide(
        [Request(state={}), Request(question=Question("a" * 5000), candidates=("b",))]
    )
    assert refused.message == (
        "this policy is asked with prompt, messages or state, and candidates, a list of answers: "
        "send that instead"
    )
    assert far.code == "PromptTooLong"
    assert far.message.startswith("the prompt and candidates[0] have ")


def test_grpo_follows_the_reward_model_that_it_refers_to(reward_model, attempt, tmp_path):
    folder, _ = reward_model
    sft = {"maxSteps": 60, "learningRate": 0.01, "batchSize": 8, "maxLength": 64}
    assert attempt(config(tmp_path, "sft", sft=sft)).outcome is Outcome.COMPLETED
    more = grpo(
        tmp_path / "policies" / "review-forge" / "1",
        maxSteps=15,
        batchSize=16,
        rewards=[{"name": "preferred", "weight": 1, "model": "reward"}],
    )
    report = attempt(config(tmp_path, "grpo", references=[reward_role(folder)], **more))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["eval_reward_delta"].low > 0.1, report.metrics
    _, made = manifest(tmp_path, 2)
    assert [r.name for r in made.references] == ["reward"]


def test_a_reference_that_does_not_score_is_refused(attempt, tmp_path):
    assert attempt(config(tmp_path, "sft")).outcome is Outcome.COMPLETED
    folder = tmp_path / "policies" / "review-forge" / "1"
    more = grpo(folder, rewards=[{"name": "preferred", "weight": 1, "model": "reward"}])
    report = attempt(config(tmp_path, "grpo", references=[reward_role(folder)], **more))
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.message.endswith(
        "is a CausalLM, wanted a RewardModel: train one with that recipe"
    )
    assert report.field == "referenceModels.reward"


@pytest.mark.parametrize("adapter", [None, {"rank": 4, "alpha": 8}], ids=["whole", "adapter"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_was_stopped_goes_on_bit_exactly(attempt, tmp_path, recipe, adapter):
    whole = attempt(wanted(tmp_path, "whole", recipe, adapter=adapter))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    parts = wanted(tmp_path, "parts", recipe, adapter=adapter)
    first = attempt(parts, StopAt(look=4))
    assert (first.outcome, first.step) == (Outcome.PREEMPTED, 3)
    rest = attempt(parts)
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 3)
    weights = [manifest(tmp_path, n)[0] / "model.safetensors" for n in (1, 2)]
    assert sha256(weights[0]) == sha256(weights[1])
    assert whole.metrics == rest.metrics
    assert not (weights[0].parent / "adapter_config.json").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_pair_that_is_too_long_is_refused(attempt, tmp_path, recipe):
    report = attempt(wanted(tmp_path, "long", recipe, block={"maxLength": 12}))
    assert report.outcome is Outcome.DATA_INVALID
    assert "tokens, maxLength is 12: raise it or leave the pair out" in report.message


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_earlier_version_is_compared_with(attempt, tmp_path, recipe):
    metric = "eval_accuracy"
    attempt(wanted(tmp_path, "first", recipe))
    folder = tmp_path / "policies" / "review-forge" / "1"
    other = {**reward_role(folder), "name": "version:1"}
    criterion = {"metric": metric, "min": -0.5, "against": "version:1"}
    made = wanted(tmp_path, "second", recipe, references=[other], exitCriteria=[criterion])
    report = attempt(made)
    found = {m.name: m.value for m in report.metrics}
    assert found[f"{metric}_vs_version_1"] == 0  # the same seed, so the same model
    assert manifest(tmp_path, 2)[1].exit_criteria[0].met
