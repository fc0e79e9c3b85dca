"""Whole runs of one process with real torch, TRL and PEFT: they learn, stop, go on, are refused."""

import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.progress import parse_progress
from policy_api.contract.report import Outcome
from policy_trainer import run as runs
from policy_trainer import stop
from trainer.worlds import StopAt, config, grpo, sha256, write_rows

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]


def manifest(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with version 1, by SFT, and its report."""
    root = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLICYOPS_STATE_DIR", str(root / "state"))
        patch.setenv("POLICYOPS_RUN_FILE", str(root / "run.json"))
        sft = {"maxSteps": 60, "learningRate": 0.01, "batchSize": 8, "maxLength": 64}
        criteria = [{"metric": "eval_loss", "max": 1.0}, {"metric": "eval_loss", "max": 0.0001}]
        wanted = config(root, "sft", sft=sft, exitCriteria=criteria)
        (root / "run.json").write_text(json.dumps(wanted.to_wire()))
        report = runs.attempt(stop.StopRequest())
    return root, report


def test_sft_learns_and_says_so_with_intervals(learned):
    _, report = learned
    assert report.outcome is Outcome.COMPLETED, report.message
    assert (report.step, report.max_steps, report.resumed_from_step) == (60, 60, None)
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["eval_loss"].high < 0.5
    assert metrics["eval_loss_base"].low > 3
    assert metrics["eval_perplexity"].value == pytest.approx(
        math.exp(metrics["eval_loss"].value), rel=1e-4
    )
    assert metrics["eval_loss_delta"].high < 0
    assert metrics["eval_answer_valid"].value == 1
    assert all(m.low <= m.value <= m.high for m in report.metrics)


def test_an_artifact_says_all_that_is_known_and_every_file_has_its_checksum(learned):
    root, report = learned
    folder, made = manifest(root, 1)
    assert report.artifact.version == made.version == 1
    assert report.artifact.uri == "pvc://artifacts/policies/review-forge/1"
    assert report.artifact.sha256 == sha256(folder / "policy.json")
    listed = {file.path: file.sha256 for file in made.files}
    found = {p.name: sha256(p) for p in folder.iterdir()}
    assert listed == {k: v for k, v in found.items() if k not in {"policy.json", ".claim.json"}}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(listed)
    assert [verdict.met for verdict in made.exit_criteria] == [True, False]
    assert made.data[0].sha256 == sha256(root / "train.jsonl")
    assert (made.data[0].rows, made.tag, made.seed, made.parent) == (48, "test", 7, None)
    assert made.training == {"namespace": "ml", "name": "sft", "uid": "sft"}
    assert made.answer_schema.patterns == ["Score: [0-9]+"]
    assert re.match(r"2\.", made.packages["torch"])
    assert 5 < made.generation.max_new_tokens <= 64


def test_an_answer_schema_that_judges_nothing_ends_it_before_it_trains(attempt, tmp_path):
    bad = {"fields": [{"name": "score", "pattern": "Score: [0-9]+()(", "type": "Integer"}]}
    report = attempt(config(tmp_path, "bad", answerSchema=bad))
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.field == "answerSchema.fields[0].pattern"
    assert not (tmp_path / "policies").exists()


def test_a_training_that_has_its_artifact_is_not_trained_again(learned, attempt):
    root, report = learned
    again = attempt(config(root, "sft"))
    assert again.artifact == report.artifact
    assert again.metrics == report.metrics
    assert again.step is None


def test_checkpoints_are_gone_once_there_is_an_artifact(learned):
    root, _ = learned
    assert not (root / "policies" / "review-forge" / "checkpoints" / "sft").exists()


def test_grpo_improves_the_reward_of_its_base_on_an_adapter_that_is_merged(learned, attempt):
    root, _ = learned
    base = root / "policies" / "review-forge" / "1"
    more = grpo(
        base,
        maxSteps=20,
        batchSize=16,
        rewards=[
            {"name": "reasons", "weight": 1, "contains": ["because of it"]},
            {"name": "score", "weight": 0.1, "contains": ["Score:"]},
        ],
    )
    report = attempt(config(root, "grpo", **more))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["eval_reward_delta"].low > 0.1, report.metrics
    folder, made = manifest(root, report.artifact.version)
    assert made.parent.version == 1
    assert made.parent.sha256 == sha256(base / "policy.json")
    assert not (folder / "adapter_config.json").exists()
    assert made.generation.max_new_tokens == 24


@pytest.mark.parametrize("recipe", ["sft", "grpo"])
def test_a_run_that_was_stopped_goes_on_bit_exactly(learned, attempt, recipe, tmp_path):
    root, _ = learned
    changes = grpo(root / "policies" / "review-forge" / "1", maxSteps=6) if recipe == "grpo" else {}
    whole = attempt(config(tmp_path, f"{recipe}-whole", **changes))
    assert whole.outcome is Outcome.COMPLETED, whole.message

    wanted = config(tmp_path, f"{recipe}-parts", **changes)
    first = attempt(wanted, StopAt(look=4))
    assert (first.outcome, first.step, first.max_steps) == (Outcome.PREEMPTED, 3, 6)
    second = attempt(wanted, StopAt(look=3))
    assert (second.outcome, second.step, second.resumed_from_step) == (Outcome.PREEMPTED, 5, 3)
    third = attempt(wanted)
    assert (third.outcome, third.step, third.resumed_from_step) == (Outcome.COMPLETED, 6, 5)

    weights = [
        manifest(tmp_path, report.artifact.version)[0] / "model.safetensors"
        for report in (whole, third)
    ]
    assert sha256(weights[0]) == sha256(weights[1])
    assert whole.metrics == third.metrics


def test_a_torn_checkpoint_is_not_gone_on_from(attempt, tmp_path):
    wanted = config(tmp_path, "torn")
    assert attempt(wanted, StopAt(look=6)).step == 5
    folder = tmp_path / "policies" / "review-forge" / "checkpoints" / "torn"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-5",
    ]
    (folder / "checkpoint-5" / "complete.json").unlink()
    (folder / "checkpoint-5" / "optimizer.pt").write_bytes(b"torn")
    report = attempt(wanted)
    assert (report.outcome, report.resumed_from_step) == (Outcome.COMPLETED, 4)


def test_a_stop_before_the_first_step_trains_nothing(attempt, tmp_path):
    report = attempt(config(tmp_path, "early"), StopAt(look=1))
    assert (report.outcome, report.step) == (Outcome.PREEMPTED, 0)
    assert "nothing was trained yet" in report.message


def test_another_base_than_the_accepted_one_is_refused(learned, attempt, tmp_path):
    root, _ = learned
    changes = grpo(root / "policies" / "review-forge" / "1")
    changes["base"]["artifact"]["sha256"] = "0" * 64
    config(tmp_path, "data")
    report = attempt(config(tmp_path, "other-base", **changes))
    assert report.outcome is Outcome.DATA_INVALID
    assert "policy.json has sha256" in report.message


SFT = {"maxSteps": 2, "learningRate": 0.01, "batchSize": 4, "maxLength": 64}


@pytest.mark.parametrize(
    ("changes", "outcome", "field", "message"),
    [
        ({"sft": {**SFT, "args": {"no_such": 1}}}, "ConfigInvalid", "sft.args.no_such", "no field"),
        (
            {"sft": {**SFT, "args": {"weight_decay": "much"}}},
            "ConfigInvalid",
            "sft.args.weight_decay",
            "valid number",
        ),
        (
            {"sft": {**SFT, "args": {"learning_rate": 1.0}}},
            "ConfigInvalid",
            "sft.args.learning_rate",
            "set learningRate instead",
        ),
        (
            {"sft": {**SFT, "args": {"lr_scheduler_type": "zigzag"}}},
            "ConfigInvalid",
            "sft",
            "zigzag",
        ),
        (
            {"base": {"scratch": {"hiddenSize": 30, "heads": 4}}},
            "ConfigInvalid",
            "base.scratch.hiddenSize",
            "must be a multiple",
        ),
        ({"base": {"model": "/no/such/model"}}, "ConfigInvalid", "base.model", "cannot load"),
        (
            {"adapter": {"targetModules": ["nowhere"]}},
            "ConfigInvalid",
            "adapter.targetModules",
            "no module 'nowhere'; it has",
        ),
        ({"compute": {"gpusPerNode": 1}}, "TrainerFailed", None, "torch sees none"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_field(
    attempt, tmp_path, changes, outcome, field, message
):
    report = attempt(config(tmp_path, "refused", **changes))
    assert (report.outcome.value, report.field) == (outcome, field), report.message
    assert message in report.message


@pytest.mark.parametrize(
    ("changes", "outcome", "field", "message"),
    [
        ({"numGenerations": 3}, "ConfigInvalid", "grpo", "divisible by num_generations"),
        ({"maxCompletionLength": 64}, "ConfigInvalid", "grpo.maxLength", "leaves no room"),
        (
            {"rewards": [{"name": "r", "weight": 1, "function": "no_such:reward"}]},
            "ConfigInvalid",
            "grpo.rewards[0].function",
            "cannot import no_such:reward",
        ),
        (
            {"maxCompletionLength": 62},
            "DataInvalid",
            "data[train] row 1 field prompt",
            "2 fit beside",
        ),
        (
            {"rewards": [{"name": "r", "weight": 1, "regex": "("}]},
            "ConfigInvalid",
            "grpo.rewards[0].regex",
            "not a regular expression",
        ),
    ],
)
def test_a_grpo_block_that_cannot_be_run_is_refused(
    learned, attempt, tmp_path, changes, outcome, field, message
):
    root, _ = learned
    block = grpo(root / "policies" / "review-forge" / "1", **changes)
    report = attempt(config(tmp_path, "refused", **block))
    assert (report.outcome.value, report.field) == (outcome, field), report.message
    assert message in report.message


def test_grpo_refuses_to_stay_near_random_weights(learned, attempt, tmp_path):
    root, _ = learned
    block = grpo(root / "policies" / "review-forge" / "1", beta=0.1)
    more = {**block, "base": config(tmp_path, "x").base.to_wire(), "adapter": None}
    report = attempt(config(tmp_path, "refused", **more))
    assert (report.outcome.value, report.field) == ("ConfigInvalid", "grpo.beta"), report.message


def test_a_bad_row_is_found_before_the_model_is_made(attempt, tmp_path):
    wanted = config(tmp_path, "bad-row", base={"model": "/no/such/model"})
    file = write_rows(tmp_path / "train.jsonl", 3)
    file.write_text(file.read_text() + '{"prompt": "no answer"}\n')
    report = attempt(wanted)
    assert report.outcome is Outcome.DATA_INVALID
    assert report.field == "data[train] row 4 field completion"


@pytest.fixture
def progress(monkeypatch, tmp_path):
    """Serve the operator's progress endpoint; returns the bodies that were posted."""
    bodies = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.headers["Authorization"] == "Bearer of-the-pod"
            bodies.append(parse_progress(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    (tmp_path / "token").write_text("of-the-pod\n")
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/status"
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", url)
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        yield bodies
        server.shutdown()


def test_progress_is_reported_and_a_stopped_run_does_not_say_that_it_is_complete(
    attempt, progress, tmp_path
):
    wanted = config(tmp_path, "reports")
    assert attempt(wanted, StopAt(look=4)).outcome is Outcome.PREEMPTED
    percents = [body.trainer_status.progress_percentage for body in progress]
    assert percents[0] == 0
    assert 100 not in percents
    progress.clear()
    assert attempt(wanted).outcome is Outcome.COMPLETED
    assert progress[-1].trainer_status.progress_percentage == 100
    assert "loss" in {metric.name for metric in progress[-1].trainer_status.metrics}


def test_a_training_that_diverges_says_what_to_change(attempt, tmp_path):
    sft = {"maxSteps": 6, "learningRate": 1.0, "batchSize": 4, "maxLength": 64}
    sft["args"] = {"weight_decay": 1e30}  # each step multiplies the weights by it
    report = attempt(config(tmp_path, "diverges", sft=sft))
    assert report.outcome is Outcome.CONFIG_INVALID, report
    assert "lower learningRate" in report.message


def test_a_run_whose_own_metrics_say_so_ends_early_and_is_judged(attempt, tmp_path):
    block = {"maxSteps": 20, "learningRate": 0.01, "batchSize": 4, "maxLength": 64}
    rule = [{"metric": "loss", "max": 0.001, "patience": 2}]
    report = attempt(config(tmp_path, "early", sft=block, stopEarly=rule))
    assert report.outcome is Outcome.COMPLETED, report.message
    # Reports come every 5 steps; what the second one says is acted on at the end of the next step.
    assert report.step == 11
    wanted = "stopped early: loss was out of bounds (max 0.001) 2 times in a row"
    assert report.message.startswith(wanted)
    assert {m.name for m in report.metrics} >= {"eval_loss", "eval_loss_delta"}
    _, made = manifest(tmp_path, 1)
    assert made.stopped_early == report.message


def test_a_run_is_judged_against_an_earlier_version_on_the_same_data(learned, attempt, tmp_path):
    root, _ = learned
    base = root / "policies" / "review-forge" / "1"
    artifact = grpo(base)["base"]["artifact"]
    criteria = [{"metric": "eval_loss", "max": 0, "against": "version:1"}]
    references = [{"name": "version:1", "artifact": artifact}]
    block = {"maxSteps": 2, "learningRate": 0.0001, "batchSize": 4, "maxLength": 64}
    wanted = config(
        tmp_path,
        "against",
        sft=block,
        base={"artifact": artifact},
        references=references,
        exitCriteria=criteria,
    )
    report = attempt(wanted)
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric for metric in report.metrics}
    # It starts from that very version, so both differences are the same.
    assert metrics["eval_loss_vs_version_1"].value == metrics["eval_loss_delta"].value
    _, made = manifest(tmp_path, 1)
    assert [(r.name, r.version) for r in made.references] == [("version:1", 1)]
    assert [v.metric for v in made.exit_criteria] == ["eval_loss_vs_version_1"]
