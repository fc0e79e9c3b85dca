"""A judge that is a model in this process: a small one that learned to judge, by recipe SFT."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.judge import JudgeEndpoint
from policy_trainer import run as runs
from policy_trainer import stop
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.judge import commands, local
from policy_trainer.judge.cache import Cache
from policy_trainer.judge.endpoint import EndpointAsker
from policy_trainer.judge.judge import Judge
from policy_trainer.judge.local import LocalAsker
from policy_trainer.process import Process
from trainer import jury
from trainer.worlds import SCRATCH, config, grpo

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

ALONE = Process(0, 0, 1, on_gpu=False)
SEEN, UNSEEN = 1, 2  # seeds


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return what trains by SFT, in a folder that is shared: a name, rows and settings."""
    root = tmp_path_factory.mktemp("trained")

    def train(name, rows, held_out, sft, scratch):
        for part, some in (("train", rows), ("validation", held_out)):
            jury.write(root / f"{part}.jsonl", some)
        wanted = config(
            root,
            name,
            policy=name,
            sft={"batchSize": 16, "maxLength": 256, **sft},
            base={"scratch": {**SCRATCH, **scratch}},
            checkpoints={"everySteps": 1000},
            answerSchema={},
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLICYOPS_STATE_DIR", str(root / "state"))
            patch.setenv("POLICYOPS_RUN_FILE", str(root / "run.json"))
            (root / "run.json").write_text(json.dumps(wanted.to_wire()))
            report = runs.attempt(stop.StopRequest())
        assert report.outcome is Outcome.COMPLETED, report.message
        return root / "policies" / name / "1"

    return train


@pytest.fixture(scope="module")
def folder(trained):
    """The folder of a model that judges."""
    rows = jury.lessons(160, SEEN)
    sft = {"maxSteps": 140, "learningRate": 0.005}
    return trained(
        "jury", rows[16:], rows[:16], sft, {"hiddenSize": 64, "heads": 4, "vocabSize": 500}
    )


@pytest.fixture(scope="module")
def asker(folder):
    return LocalAsker(str(folder), "judge.model", ALONE)


@pytest.fixture
def judge(asker):
    return Judge(asker, jury.CRITERIA, Cache())


def test_its_ratings_agree_with_peoples_labels_on_answers_that_it_has_not_seen(judge):
    found = commands.agreement(judge, jury.labelled(100, UNSEEN), commands.MIDDLE, seed=1)
    assert found.kappa.low > 0.5
    assert found.labels == ["bad", "good"]
    assert judge.spent.requests == judge.asked < 100  # some answers are the same
    assert judge.spent.input_tokens > 50 * judge.asked
    assert judge.spent.output_tokens == 0


def test_its_comparisons_agree_with_people_in_both_orders(judge):
    pairs = jury.paired(jury.labelled(60, UNSEEN))
    found = commands.agreement(judge, pairs, commands.MIDDLE, seed=1)
    assert found.kappa.low > 0.5
    assert found.inconsistent < 0.2


def test_a_rating_is_an_expectation(judge):
    found = judge.rate([("The cart is slow", f"Deploy it{end}") for end in ("", ".", "!")])
    ratings = [one.ratings["safety"] for one in found]
    assert all(1 <= rating <= 10 and rating != round(rating) for rating in ratings)


def test_a_question_that_does_not_fit_is_refused(judge):
    with pytest.raises(DataInvalidError, match="tokens, it reads 256: shorten prompt, answer"):
        judge.rate([("p", "word " * 300)])


def test_a_judge_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigInvalidError, match="cannot load the judge") as missing:
        LocalAsker(str(tmp_path), "judge.model", ALONE)
    assert missing.value.field == "judge.model"


def test_other_weights_are_another_judge(asker, folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert LocalAsker(str(tmp_path), "judge.model", ALONE).identity != asker.identity
    assert LocalAsker(str(folder), "judge.model", ALONE).identity == asker.identity


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_number_is_told_from_one_that_begins_like_it(one, zero):
    """`1` and `10` share a token where digits are tokens: what follows tells them apart."""
    options = [(1,), (2,), (1, 0)]
    logs = {
        (): torch.tensor([[0.0, one, 1 - one]], dtype=torch.float64),
        (1,): torch.tensor([[zero, 0.5, 0.5]], dtype=torch.float64),
    }
    found = [float(local._chance(option, options, logs)) for option in options]
    assert found == pytest.approx([one * (1 - zero), 1 - one, one * zero])
    assert sum(found) == pytest.approx(1)


def test_grpo_learns_what_the_judge_of_another_training_likes(trained, folder, attempt):
    rows = [{k: row[k] for k in ("prompt", "completion")} for row in jury.labelled(96, SEEN)]
    sft = {"maxSteps": 60, "learningRate": 0.01}
    base = trained("policy", rows, rows[:48], sft, {"vocabSize": 500})
    root = base.parents[2]
    terms = [{"name": "safe", "weight": 1, "judge": "safety"}]
    more = grpo(
        base, maxSteps=20, batchSize=16, maxCompletionLength=48, maxLength=96, rewards=terms
    )
    artifact = grpo(folder)["base"]["artifact"]
    criteria = [criterion.to_wire() for criterion in jury.CRITERIA]
    report = attempt(
        config(
            root,
            "grpo",
            policy="policy",
            judge={"training": {"name": "jury"}, "criteria": criteria},
            references=[{"name": "judge", "artifact": artifact}],
            **more,
        )
    )
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["eval_reward_delta"].low > 0.05, report.metrics
    assert 0 <= metrics["eval_reward"].value <= 1
    assert metrics["judge_requests"].value > 16
    assert "judge_usd" not in metrics
    made = json.loads((root / "policies" / "policy" / "2" / "policy.json").read_text())
    assert made["references"][0]["name"] == "judge"


@pytest.fixture
def served(folder, tmp_path):
    """The URL of `transformers serve`, an OpenAI-compatible server, with the model that judges."""
    port = 8000 + os.getpid() % 1000
    program = Path(sys.executable).parent / "transformers"
    command = [program, "serve", folder, "--port", str(port), "--device", "cpu"]
    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command], env={**os.environ, **home}, stdout=log, stderr=log) as child,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", child)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            child.terminate()


def _wait(url, child):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
        except (urllib.error.URLError, ConnectionError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        else:
            return
    pytest.fail("transformers serve did not come up")


def test_a_real_server_of_a_model_judges_over_http(served):
    url, name = served
    asker = EndpointAsker(JudgeEndpoint(url=url, model=name), seed=1)
    judge = Judge(asker, jury.CRITERIA, Cache())
    found = commands.agreement(judge, jury.labelled(24, UNSEEN), commands.MIDDLE, seed=1)
    assert found.kappa.low > 0.5
    assert judge.spent.output_tokens > judge.spent.requests > 0
