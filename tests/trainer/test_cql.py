"""CQL finds the better actions in a log, says what they are worth, and goes on exactly."""

import json

import numpy as np
import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from trainer import agents
from trainer.worlds import StopAt, config, reference, sha256

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

SHORT = {"maxSteps": 12, "hidden": [16], "batchSize": 8, "successReward": 5}


def wanted(root, uid, **changes):
    block = {"maxSteps": 1500, "hidden": [32, 32], "learningRate": 0.003, "successReward": 5}
    block |= changes.pop("block", {})
    if not (root / "train.jsonl").exists():
        agents.write(root / "train.jsonl", 1200, seed=1)
        agents.write(root / "validation.jsonl", 1000, seed=2)
    fields = {"recipe": "CQL", "sft": None, "cql": block, "base": {}}
    return config(root, uid, **{**fields, **changes})


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


@pytest.mark.parametrize("propensity", [True, False], ids=["logged", "modelled"])
def test_it_finds_what_works_and_tells_its_worth(attempt, tmp_path, propensity):
    agents.write(tmp_path / "train.jsonl", 1200, seed=1, propensity=propensity)
    agents.write(tmp_path / "validation.jsonl", 1000, seed=2, propensity=propensity)
    criteria = [
        {"metric": "mean_reward", "lowerBound": 0.5, "against": "best-baseline"},
        {"metric": "regret", "max": 0.3},
    ]
    report = attempt(wanted(tmp_path, "uid", exitCriteria=criteria))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m for m in report.metrics}
    truth = 8 - 0.5 / 3  # always right, and every third time by the sequence
    margin = 0.1  # a 95 % interval may miss, and what was learned depends on a CPU's rounding
    assert metrics["mean_reward"].low - margin < truth < metrics["mean_reward"].high + margin
    assert metrics["accuracy"].low > 0.7
    assert metrics["success_rate"].value > metrics["success_rate_baseline_random"].value
    folder, made = artifact(tmp_path, 1)
    assert all(verdict.met for verdict in made.exit_criteria)
    assert made.kind == "QNetwork"
    kept = json.loads((folder / "q_policy.json").read_text())
    assert kept["action_space"] == ["backend", "frontend", ["security", "backend"]]
    assert kept["state_features"] == ["task", "languages", "success_rate"]
    assert kept["training_episodes"] == 600


def test_what_serves_is_what_was_judged(attempt, tmp_path):
    from policy_models.decision import Request  # noqa: PLC0415 - numpy
    from policy_models.policy import open_policy  # noqa: PLC0415

    report = attempt(wanted(tmp_path, "uid"))
    metrics = {m.name: m.value for m in report.metrics}
    policy = open_policy(*artifact(tmp_path, 1))
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    served = policy.decide([Request(state=row["state"]) for row in rows])
    logged = [a if isinstance(a := row["action"], str) else ">".join(a) for row in rows]
    won = [row["reward"] > 5 for row in rows]
    agrees = [f.ranking[0].action == a for f, a, w in zip(served, logged, won, strict=True) if w]
    assert np.mean(agrees) == pytest.approx(metrics["accuracy"], rel=1e-5)
    sure = [
        next(option.confidence for option in found.ranking if option.action == action)
        for found, action in zip(served, logged, strict=True)
    ]
    from policy_trainer import scores  # noqa: PLC0415

    assert metrics["confidence_ece"] < 0.1
    taken = [f.ranking[0].action == action for f, action in zip(served, logged, strict=True)]
    told = np.mean([c for c, t in zip(sure, taken, strict=True) if t])
    true = np.mean([w for w, t in zip(won, taken, strict=True) if t])
    assert told == pytest.approx(true, abs=0.1)  # also of what the policy itself would take
    ece = scores.ece(np.array(sure), np.array(won, dtype=float))
    assert ece == pytest.approx(metrics["confidence_ece"], rel=1e-5)
    assert sum(record.decisions for record in policy.history.values()) == 1200


def test_what_is_read_chooses_as_what_was_learned(attempt, tmp_path):
    from policy_models.q_policy import QPolicy  # noqa: PLC0415 - numpy

    assert attempt(wanted(tmp_path, "uid")).outcome is Outcome.COMPLETED
    policy = QPolicy.read(artifact(tmp_path, 1)[0])
    states = [{"task": task, "languages": [], "success_rate": 0.5} for task in agents.TASKS]
    assert policy.choose(states) == list(agents.AGENTS)
    assert np.isfinite(policy.values(policy.encoder.dense([{"task": "never seen"}]))).all()


@pytest.mark.parametrize("step", [1, 11, 12, 13, 23])
def test_a_run_that_was_stopped_goes_on_bit_exactly_also_between_alphas(attempt, tmp_path, step):
    block = {**SHORT, "alphas": [0.5, 2.0], "targetUpdateSteps": 5}
    whole = attempt(wanted(tmp_path, "whole", block=block))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    stopped = attempt(wanted(tmp_path, "parts", block=block), StopAt(look=step + 1))
    assert (stopped.outcome, stopped.step) == (Outcome.PREEMPTED, step)
    rest = attempt(wanted(tmp_path, "parts", block=block))
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, step)
    for name in ("q_policy.json", "q_network.safetensors"):
        assert sha256(artifact(tmp_path, 1)[0] / name) == sha256(artifact(tmp_path, 2)[0] / name)


def test_a_later_version_goes_on_with_new_actions_and_columns(attempt, tmp_path):
    attempt(wanted(tmp_path, "first"))
    folder, _ = artifact(tmp_path, 1)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for number, row in enumerate(lines):
        row["state"] |= {"team": "new"}
        if number % 10 == 0:
            row["action"] = "human"
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    criterion = {"metric": "mean_reward", "min": -0.2, "against": "version:1"}
    more = wanted(
        tmp_path,
        "second",
        block={"maxSteps": 1, "learningRate": 1e-6},
        base={"artifact": reference(folder)},
        references=[{"name": "version:1", "artifact": reference(folder)}],
        exitCriteria=[criterion],
    )
    report = attempt(more)
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m.value for m in report.metrics}
    assert metrics["mean_reward_vs_version_1"] > -0.2  # nothing was forgotten
    folder, made = artifact(tmp_path, 2)
    kept = json.loads((folder / "q_policy.json").read_text())
    assert kept["action_space"][-1] == "human"
    assert kept["state_features"][-1] == "team"
    assert made.parent.version == 1


def test_a_log_that_says_nothing_of_the_policy_leaves_its_worth_out(attempt, tmp_path):
    agents.write(tmp_path / "train.jsonl", 300, seed=1)
    agents.write(tmp_path / "validation.jsonl", 30, seed=2)
    criterion = {"metric": "mean_reward", "min": 0}
    report = attempt(wanted(tmp_path, "uid", block=SHORT, exitCriteria=[criterion]))
    assert "mean_reward" not in {m.name for m in report.metrics}
    verdict = artifact(tmp_path, 1)[1].exit_criteria[0]
    assert (verdict.met, verdict.message) == (False, "the trainer reported no metric 'mean_reward'")


GOOD = {"state": {"task": "api"}, "action": "backend", "reward": 1}


@pytest.mark.parametrize(
    ("row", "block", "message"),
    [
        ({"state": 3}, {}, "train.jsonl:1: field 'state' must be an object of columns"),
        ({"action": []}, {}, "field 'action' is [], wanted a text or a list of texts"),
        ({"reward": float("nan")}, {}, "field 'reward' is NaN, wanted a number"),
        ({"done": False}, {}, "field 'next_state' must be an object unless 'done' is true"),
        ({"done": "no"}, {}, "field 'done' is 'no', wanted true or false"),
        ({"propensity": 0}, {}, "field 'propensity' is 0, wanted above 0"),
        ({"action": "backed"}, {"actions": ["backend", "frontend"]}, "did you mean 'backend'?"),
        ({}, {}, "the training data has 1 action, there is nothing to choose"),
        ({"state": {}}, {"actions": list(agents.AGENTS)}, "data[train] has no columns to learn"),
    ],
)
def test_bad_rows_are_refused_by_line_and_field(attempt, tmp_path, row, block, message):
    made = wanted(tmp_path, "uid", block={**SHORT, **block})
    (tmp_path / "train.jsonl").write_text(json.dumps({**GOOD, **row}) + "\n")
    report = attempt(made)
    assert report.outcome is Outcome.DATA_INVALID, report.message
    assert message in report.message


def test_an_action_that_training_never_saw_is_refused(attempt, tmp_path):
    made = wanted(tmp_path, "uid", block=SHORT)
    with (tmp_path / "validation.jsonl").open("a") as rows:
        rows.write(json.dumps({**GOOD, "action": "human"}) + "\n")
    report = attempt(made)
    assert report.field == "data[validation] row 1001 field action"
    assert "'human' is not one of backend, frontend, security>backend" in report.message


def test_several_alphas_need_validation(attempt, tmp_path):
    made = wanted(tmp_path, "uid", block={**SHORT, "alphas": [1, 2]})
    report = attempt(made.model_copy(update={"data": made.data[:1]}))
    assert (report.outcome, report.field) == (Outcome.CONFIG_INVALID, "cql.alphas")
