"""PlanPreference learns which words people like, exactly and again."""

import json

import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from trainer.worlds import StopAt, config, sha256

pytestmark = pytest.mark.trainer

LIKED, DISLIKED = ("short", "tested", "clear"), ("slow", "vague", "manual")


def write(file, count, words=(LIKED, DISLIKED)):
    rows = []
    for n in range(count):
        liked = n % 2 == 0
        plan = f"step {n % 5} is {words[0 if liked else 1][n % 3]} and step {n % 7} follows"
        said = ("good plan", "worked") if liked else ("not good", "wrong order")
        tags = [] if n % 4 < 2 else ["pos" if liked else "neg"]
        rows.append({"prompt": "do it", "plan": plan, "feedback": said[n % 2], "tags": tags})
    rows.append({"prompt": "do it", "plan": "step", "feedback": "so so"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def wanted(root, uid, **changes):
    block = {"epochs": 6, **changes.pop("block", {})}
    if not (root / "train.jsonl").exists():
        write(root / "train.jsonl", 400)
        write(root / "validation.jsonl", 80)
    fields = {"recipe": "PlanPreference", "sft": None, "planPreference": block, "base": {}}
    return config(root, uid, **fields, **changes)


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


def test_it_learns_and_its_model_is_json_that_a_person_can_read(attempt, tmp_path):
    criterion = {"metric": "accuracy", "lowerBound": 0.2, "against": "best-baseline"}
    report = attempt(wanted(tmp_path, "uid", exitCriteria=[criterion]))
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m for m in report.metrics}
    assert metrics["accuracy"].low > 0.9
    assert metrics["auc"].value > 0.95
    folder, made = artifact(tmp_path, 1)
    assert (made.kind, made.exit_criteria[0].met) == ("PlanPreference", True)
    model = json.loads((folder / "preference_model.json").read_text())
    listed = [entry["word"] for entry in model["vocabulary"]]
    assert set(listed[:3]) == set(LIKED)
    assert set(listed[-3:]) == set(DISLIKED)


def test_the_vocabulary_has_a_cap(attempt, tmp_path):
    assert attempt(wanted(tmp_path, "uid", block={"maxVocabulary": 2})).outcome == "Completed"
    folder, _ = artifact(tmp_path, 1)
    assert len(json.loads((folder / "preference_model.json").read_text())["vocabulary"]) == 2


def test_the_same_seed_makes_the_same_bytes_also_after_a_stop(attempt, tmp_path):
    attempt(wanted(tmp_path, "whole"))
    attempt(wanted(tmp_path, "again"))
    stopped = attempt(wanted(tmp_path, "parts"), StopAt(look=4))
    assert (stopped.outcome, stopped.step) == (Outcome.PREEMPTED, 3)
    rest = attempt(wanted(tmp_path, "parts"))
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 3)
    sums = {sha256(artifact(tmp_path, n)[0] / "preference_model.json") for n in (1, 2, 3)}
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"plan": "", "feedback": "good"}, "train.jsonl:1: field 'plan' is \"\""),
        ({"plan": "p", "feedback": 7}, "train.jsonl:1: field 'feedback' is 7, wanted a text"),
        ({"plan": "p", "tags": [1]}, "train.jsonl:1: field 'tags' is [1], wanted a list of texts"),
        ({"plan": "p", "feedback": "good"}, "of 1 labelled plans 1 are liked"),
        ({"plan": "p", "feedback": "hm"}, "of 0 labelled plans 0 are liked"),
    ],
)
def test_bad_rows_are_refused_by_line_and_field(attempt, tmp_path, row, message):
    made = wanted(tmp_path, "uid")
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    report = attempt(made)
    assert report.outcome is Outcome.DATA_INVALID
    assert message in report.message
