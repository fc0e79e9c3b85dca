"""Classifier ranks and is calibrated, goes on exactly, and does not look at what is forbidden."""

import json
import random

import pytest
import real_data
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from trainer.worlds import StopAt, config, sha256

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

MODELS = {"xgboost": {"rounds": 40, "learningRate": 0.2}, "logisticRegression": {"c": 1.0}}


def write(file, count):
    """Write rows whose class depends on age and plan, with a tenth of noise."""
    chance = random.Random(count)
    rows = []
    for n in range(count):
        age, plan = chance.randrange(60), chance.choice(("basic", "gold", "none"))
        leaves = ((age < 30) != (plan == "gold")) != (chance.random() < 0.1)
        seen = {"age": age, "plan": plan, "calls": chance.choice(("", 1, 2, 3))}
        after = {"seconds": 100 + n % 7 if leaves else 0, "left": "yes" if leaves else "no"}
        rows.append({"id": f"c{n}", **seen, **after})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def wanted(root, uid, **changes):
    block = {"label": "left", "positive": "yes", "forbidden": ["id", "seconds"]}
    block |= {"xgboost": MODELS["xgboost"]} | changes.pop("block", {})
    if not (root / "train.jsonl").exists():
        write(root / "train.jsonl", 900)
        write(root / "validation.jsonl", 2000)
    fields = {"recipe": "Classifier", "sft": None, "classifier": block, "base": {}}
    return config(root, uid, **fields, **changes)


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


@pytest.mark.parametrize("model", MODELS)
def test_it_ranks_is_calibrated_and_kept_as_json(attempt, tmp_path, model):
    block = {"xgboost": None, model: MODELS[model]}
    report = attempt(wanted(tmp_path, "uid", block=block))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m for m in report.metrics}
    if model == "xgboost":  # age and plan act together, which a linear model cannot say
        assert metrics["accuracy"].low > 0.8
        assert metrics["accuracy_vs_best_baseline"].low > 0.1
        assert metrics["ece"].value < 0.06
    folder, made = artifact(tmp_path, 1)
    assert made.kind == "Classifier"
    kept = json.loads((folder / "classifier.json").read_text())
    assert [f["name"] for f in kept["features"]] == ["age", "plan", "calls"]
    assert kept["calibration"]["y"] == sorted(kept["calibration"]["y"])


def test_what_is_read_scores_as_what_was_written(attempt, tmp_path):
    from policy_models.classifier import Classifier  # noqa: PLC0415 - numpy

    for model, settings in MODELS.items():
        attempt(wanted(tmp_path, model, block={"xgboost": None, model: settings}))
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    for number in (1, 2):
        folder, made = artifact(tmp_path, number)
        found = Classifier.read(folder).probabilities(rows)
        assert ((found > 0) & (found < 1)).all()
        right = ((found >= 0.5) == [row["left"] == "yes" for row in rows]).mean()
        assert right == pytest.approx(next(m.value for m in made.metrics if m.name == "accuracy"))


@pytest.mark.parametrize("step", [1, 13, 25, 26, 39])
def test_the_same_seed_makes_the_same_bytes_also_after_a_stop(attempt, tmp_path, step):
    attempt(wanted(tmp_path, "whole"))
    stopped = attempt(wanted(tmp_path, "parts"), StopAt(look=step + 1))
    assert (stopped.outcome, stopped.step) == (Outcome.PREEMPTED, step)
    rest = attempt(wanted(tmp_path, "parts"))
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, step)
    for name in ("classifier.json", "trees.json"):
        assert sha256(artifact(tmp_path, 1)[0] / name) == sha256(artifact(tmp_path, 2)[0] / name)


def test_folds_judge_on_every_row(attempt, tmp_path):
    whole = wanted(tmp_path, "folds", block={"folds": 4})
    report = attempt(whole.model_copy(update={"data": whole.data[:1]}))
    metrics = {m.name: m for m in report.metrics}
    assert metrics["auc"].low > 0.85, report.metrics


def test_an_earlier_version_is_compared_on_the_same_rows(attempt, tmp_path):
    first = {"xgboost": {"rounds": 1, "learningRate": 0.01}}
    attempt(wanted(tmp_path, "first", block=first))
    folder, _ = artifact(tmp_path, 1)
    other = {
        "name": "version:1",
        "artifact": {
            "uri": "pvc://artifacts/policies/review-forge/1",
            "path": str(folder),
            "sha256": sha256(folder / "policy.json"),
            "policy": "review-forge",
            "version": 1,
        },
    }
    criterion = {"metric": "auc", "lowerBound": 0.01, "against": "version:1"}
    report = attempt(wanted(tmp_path, "more", references=[other], exitCriteria=[criterion]))
    assert report.outcome is Outcome.COMPLETED, report.message
    assert artifact(tmp_path, 2)[1].exit_criteria[0].met


@pytest.mark.parametrize(
    ("block", "outcome", "message"),
    [
        ({"forbidden": ["id"]}, "DataInvalid", "column 'seconds' alone has an AUC of 1.000"),
        ({"forbidden": ["id", "secons"]}, "ConfigInvalid", "did you mean 'seconds'?"),
        ({"forbidden": []}, "DataInvalid", "column 'id' has 900 values in 900 rows"),
        ({"label": "gone"}, "DataInvalid", "train.jsonl:1: field 'gone' is missing: it is the"),
        ({"positive": "maybe"}, "DataInvalid", "'left' is 'maybe' in 0 of 900 rows"),
    ],
)
def test_what_would_learn_nothing_or_cheat_is_refused(attempt, tmp_path, block, outcome, message):
    report = attempt(wanted(tmp_path, "uid", block=block))
    assert report.outcome == outcome, report.message
    assert message in report.message


@real_data.needed
@pytest.mark.parametrize(
    ("file", "block", "auc"),
    [
        (
            "telco-churn/Telco-Customer-Churn.csv",
            {"label": "Churn", "positive": "Yes", "forbidden": ["customerID"]},
            0.84,
        ),
        (
            "bank-marketing/bank-additional-full.csv.gz",
            {"label": "output", "positive": "yes", "forbidden": ["duration"]},
            0.77,
        ),
    ],
    ids=["telco", "bank"],
)
def test_real_data_over_five_folds(attempt, tmp_path, file, block, auc):
    data = [{"name": "train", "uri": f"file:///{file}", "path": str(real_data.FOLDER / file)}]
    block = {"folds": 5, "xgboost": {}, **block}
    report = attempt(wanted(tmp_path, "uid", block=block, data=data))
    metrics = {m.name: m.value for m in report.metrics}
    assert metrics["auc"] >= auc
    assert metrics["ece"] < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_what_serves_is_what_was_judged(attempt, tmp_path, model):
    from policy_models.decision import Request  # noqa: PLC0415 - numpy
    from policy_models.policy import open_policy  # noqa: PLC0415

    report = attempt(wanted(tmp_path, "uid", block={"xgboost": None, model: MODELS[model]}))
    metrics = {m.name: m.value for m in report.metrics}
    policy = open_policy(*artifact(tmp_path, 1))
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    states = [
        {n: row[n] if row[n] != "" else None for n in ("age", "plan", "calls")} for row in rows
    ]
    served = policy.decide([Request(state=state) for state in states])
    together = policy.probabilities(rows)
    likely = [
        next(option.confidence for option in found.ranking if option.action == "yes")
        for found in served
    ]
    assert likely == together.tolist()  # bit for bit
    right = [f.ranking[0].action == row["left"] for f, row in zip(served, rows, strict=True)]
    assert sum(right) / len(right) == pytest.approx(metrics["accuracy"], rel=1e-5)
