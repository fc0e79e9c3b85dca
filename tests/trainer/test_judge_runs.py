"""A judge's rating as a reward, from a real server: in GRPO and PPO, gone on with, bounded."""

import json

import pytest
from policy_api.contract.report import Outcome
from policy_trainer import run as runs
from policy_trainer import stop
from trainer.judge_server import WRITTEN, serve
from trainer.worlds import StopAt, config, grpo, ppo

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

CRITERIA = [{"name": "safety", "description": "It can be undone."}]
TERMS = [{"name": "safe", "weight": 2, "judge": "safety"}]
KEY = "sk-secret-key-of-a-user"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a policy that names a rollback in every second answer."""
    root = tmp_path_factory.mktemp("base")
    rows = [
        {"prompt": f"Change {n % 8}", "completion": "with rollback" if n % 2 else "at once"}
        for n in range(48)
    ]
    for name in ("train", "validation"):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLICYOPS_STATE_DIR", str(root / "state"))
        patch.setenv("POLICYOPS_RUN_FILE", str(root / "run.json"))
        sft = {"maxSteps": 40, "learningRate": 0.01, "batchSize": 8, "maxLength": 64}
        wanted = config(root, "sft", sft=sft, answerSchema={})
        (root / "run.json").write_text(json.dumps(wanted.to_wire()))
        report = runs.attempt(stop.StopRequest())
    assert report.outcome is Outcome.COMPLETED, report.message
    return root / "policies" / "review-forge" / "1"


@pytest.fixture
def server():
    with serve() as made:
        yield made


@pytest.fixture
def judged(base, server, monkeypatch):
    """Return what makes a run whose reward is the server's rating."""
    monkeypatch.setenv("POLICYOPS_JUDGE_KEY", KEY)
    server.wanted_key = KEY

    def made(uid, more=grpo, **endpoint):
        secret = {"name": "openai", "key": "api-key"}
        where = {"url": server.url, "model": "rule", "secretRef": secret, **endpoint}
        changes = more(base, rewards=TERMS, maxCompletionLength=8)
        judge = {"endpoint": where, "criteria": CRITERIA}
        return config(base.parents[2], uid, **changes, judge=judge)

    return made


@pytest.mark.parametrize("recipe", [grpo, ppo])
def test_a_run_counts_what_its_judge_took(judged, server, attempt, recipe, tmp_path):
    price = {"usdPerMillionOutputTokens": 1000}
    report = attempt(judged(recipe.__name__, recipe, **price))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {metric.name: metric.value for metric in report.metrics}
    assert metrics["judge_requests"] == len(server.requests) > 4
    assert metrics["judge_output_tokens"] == WRITTEN * len(server.requests)
    assert metrics["judge_usd"] == pytest.approx(WRITTEN * len(server.requests) / 1000)
    assert 2 * 1 / 9 <= metrics["eval_reward"] <= 2 * 8 / 9  # ratings of 2 and 9, weighted
    asked = [request.asked for request in server.requests]
    assert len(set(asked)) == len(asked)  # none twice
    told = [file.read_text() for file in tmp_path.rglob("*.json")]
    assert told
    assert not any(KEY in text for text in told)


def test_a_run_that_goes_on_asks_nothing_twice(judged, server, attempt):
    wanted = judged("stopped")
    first = attempt(wanted, StopAt(look=4))
    assert (first.outcome, first.step) == (Outcome.PREEMPTED, 3)
    before = len(server.requests)
    assert before > 0
    second = attempt(wanted)
    assert (second.outcome, second.resumed_from_step) == (Outcome.COMPLETED, 3)
    asked = [request.asked for request in server.requests]
    assert len(set(asked)) == len(asked)
    metrics = {metric.name: metric.value for metric in second.metrics}
    assert metrics["judge_requests"] == len(asked)  # of both attempts


def test_a_run_ends_when_its_judge_has_cost_enough(judged, server, attempt):
    price = {"usdPerMillionOutputTokens": 1e6 / WRITTEN, "maxUSD": 2}  # 1 USD a question
    report = attempt(judged("spent", **price))
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.message.startswith("the judge has cost 2 USD, its maxUSD is 2: raise it")
    assert report.field == "judge.endpoint.maxUSD"
    asked = len(server.requests)
    again = attempt(judged("spent", **price))
    assert again.message == report.message
    assert len(server.requests) == asked  # also in the next attempt


def test_a_judge_that_is_away_fails_the_attempt_and_not_the_config(judged, attempt, monkeypatch):
    from policy_trainer.judge import endpoint  # noqa: PLC0415 - openai

    monkeypatch.setattr(endpoint, "RETRIES", 0)
    report = attempt(judged("away", url="http://127.0.0.1:1/v1"))
    assert report.outcome is Outcome.TRAINER_FAILED
    assert report.message.startswith("the judge rule at http://127.0.0.1:1/v1 did not reply")


def test_a_judge_without_its_key_is_refused_before_anything_is_trained(
    judged, server, attempt, monkeypatch
):
    wanted = judged("no-key")
    monkeypatch.delenv("POLICYOPS_JUDGE_KEY")
    report = attempt(wanted)
    assert (report.outcome, report.field) == (Outcome.CONFIG_INVALID, "judge.endpoint.secretRef")
    assert report.step is None
    assert server.requests == []
