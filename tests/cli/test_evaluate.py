"""`policyctl evaluate` says what a policy would have earned, or that the log does not tell."""

import json

import pytest
from policyctl import main as cli
from trainer import agents

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agents.write(tmp_path / "log.jsonl", 3000, seed=1)
    return tmp_path / "log.jsonl"


def test_a_baseline_is_worth_what_it_earns(log, capfd):
    assert cli.main(["evaluate", str(log), "--policy", "random", "--json"]) == 0
    found = {row["value"]: row for row in json.loads(capfd.readouterr().out)}
    truth = (8 + 8 + 7.5 + 2 * (2 + 2 + 2) - 0.5 * 2) / 9  # every task, every agent
    for name in ("ips", "snips", "dm", "dr"):
        assert found[name]["low"] - 0.1 < truth < found[name]["high"] + 0.1, name
    assert found["log"]["mean"] > found["dr"]["mean"]  # the log is right more often than chance
    assert found["dr"]["effectiveSampleSize"] > 1000


def test_a_trained_policy_is_evaluated_on_another_log(log, tmp_path, capfd):
    spec = {
        "policy": "agents",
        "recipe": "CQL",
        "cql": {"maxSteps": 800, "hidden": [32], "learningRate": 0.003, "successReward": 5},
        "data": [{"name": "train", "uri": "file://train.jsonl"}],
        "artifact": {"uri": "pvc://artifacts/policies"},
    }
    agents.write(tmp_path / "train.jsonl", 1200, seed=2)
    meta = {"name": "agents"}
    document = {"kind": "PolicyTraining", "metadata": meta, "spec": spec}
    (tmp_path / "t.yaml").write_text(json.dumps(document))
    assert cli.main(["train", "t.yaml", "--local"]) == 0
    folder = tmp_path / "volumes" / "artifacts" / "policies" / "agents" / "1"
    capfd.readouterr()
    assert cli.main(["evaluate", str(log), "--policy", str(folder)]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("3,000 decisions, effective sample size ")
    best = 8 - 0.5 / 3
    assert float(said[-1].split()[1]) == pytest.approx(best, abs=0.3)


@pytest.mark.parametrize(
    ("rows", "policy", "code", "message"),
    [
        (40, "random", 65, "effective sample size is"),
        (200, "nobody", 78, "is neither a folder with q_policy.json nor one of random"),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path, capfd, rows, policy, code, message):
    agents.write(tmp_path / "log.jsonl", rows, seed=1)
    assert cli.main(["evaluate", str(tmp_path / "log.jsonl"), "--policy", policy]) == code
    assert message in capfd.readouterr().err


def test_a_log_without_propensities_is_refused(tmp_path, capfd):
    agents.write(tmp_path / "log.jsonl", 200, seed=1, propensity=False)
    assert cli.main(["evaluate", str(tmp_path / "log.jsonl"), "--policy", "random"]) == 78
    assert "some rows have no 'propensity'" in capfd.readouterr().err
