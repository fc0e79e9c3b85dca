"""Split, pair, validate and list data: streaming, and by the trainings' own rules."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_trainer import checks, data, pairs
from policy_trainer.data_tools import __main__ as tools
from trainer.worlds import config

PARTS = data.PARTS


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_commands_need_none_of_the_large_libraries():
    program = "import sys, policy_trainer.data_tools.__main__; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"torch", "numpy", "pandas", "datasets", "transformers"} & set(ran.stdout.split())


def test_a_split_has_every_row_once_and_as_it_was(tmp_path, capsys):
    made = [{"a": n % 150, "b": [None, {"c": n}]} for n in range(300)]
    file = write(tmp_path / "a.jsonl", made)
    assert tools.main(["split", file, "--output", str(tmp_path / "out"), "--by", "a"]) == 0
    parts = [read(tmp_path / "out" / f"{name}.jsonl") for name in PARTS]
    assert sorted(str(row) for part in parts for row in part) == sorted(map(str, made))
    groups = [{row["a"] for row in part} for part in parts]
    assert sum(map(len, groups)) == 150
    assert abs(len(groups[0]) - 120) < 20
    said = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1]) for line in said] == [len(part) for part in parts]


def test_decisions_are_split_by_episodes(tmp_path):
    made = [
        {"state": {"n": n}, "action": "a", "reward": 0, "done": n % 4 == 3, "next_state": {}}
        for n in range(400)
    ]
    file = write(tmp_path / "a.jsonl", made)
    wanted = ["--train", "50", "--validation", "50", "--test", "0"]
    assert tools.main(["split", file, "--output", str(tmp_path / "out"), *wanted]) == 0
    found = [
        {row["state"]["n"] // 4 for row in read(tmp_path / "out" / f"{n}.jsonl")} for n in PARTS[:2]
    ]
    assert not found[0] & found[1]
    assert not (tmp_path / "out" / "test.jsonl").exists()
    assert tools.main(["split", file, "--output", str(tmp_path / "rows"), "--by", "reward"]) == 0
    assert sorted(len(read(tmp_path / "rows" / f"{n}.jsonl")) for n in PARTS) == [0, 0, 400]


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        ('{"a": 1}\nno\n', [], "a.jsonl:2 is no JSON: Expecting value: line 1 column 1 (char 0)\n"),
        ("", [], "there are no rows\n"),
        (
            '{"a": 1}\n',
            ["--by", "user"],
            "a.jsonl:1: field 'user' is missing: rows are kept together by it\n",
        ),
    ],
)
def test_a_split_of_bad_rows_writes_nothing(tmp_path, monkeypatch, capsys, content, more, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(content)
    assert tools.main(["split", "a.jsonl", "--output", "out", *more]) == 65
    assert capsys.readouterr().err == message
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


labelled = st.builds(
    lambda prompt, answer, label: {"prompt": prompt, "completion": answer, "label": label},
    st.sampled_from(["a", "b", "ü", "\ud800"]),
    st.text(min_size=1, max_size=3).filter(str.strip),
    st.sampled_from(checks.LABELS),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(labelled, max_size=40), seed=st.integers(0, 5))
def test_pairs_on_disk_are_those_that_a_training_makes_in_memory(tmp_path_factory, rows, seed):
    folder = tmp_path_factory.mktemp("pairs")
    file, output = write(folder / "a.jsonl", rows), folder / "out" / "pairs.jsonl"
    code = tools.main(["pairs", file, "--output", str(output), "--seed", str(seed)])
    wanted = pairs.pair(rows, seed)
    assert code == (0 if wanted else 65)
    assert (read(output) if wanted else output.parent.exists()) == (wanted or False)


def test_pairs_come_of_decisions_and_feedback_and_say_what_has_none(tmp_path, capsys):
    made = [
        {"input": {"b": 1, "a": 2}, "output": "yes", "label": "good"},
        {"input": {"a": 2, "b": 1}, "output": {"go": False}, "label": "bad"},
        {"input": "alone", "output": "x", "label": "bad"},
        {"prompt": "p", "plan": "hm", "feedback": "maybe"},
        {"prompt": "p", "chosen": "c", "rejected": "r"},
    ]
    output = tmp_path / "pairs.jsonl"
    assert tools.main(["pairs", write(tmp_path / "a.jsonl", made), "--output", str(output)]) == 0
    assert read(output) == [
        {"prompt": "p", "chosen": "c", "rejected": "r"},
        {"prompt": '{"a": 2, "b": 1}', "chosen": "yes", "rejected": '{"go": false}'},
    ]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{output}: 2 pairs, sha256 ")
    assert said[1:] == [
        "1 of 2 prompts lack a good or a bad answer",
        "1 rows of feedback are neither good nor bad, left out",
    ]


def test_validate_tells_the_first_faults_and_counts_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", [{"prompt": "p"}] * 12)
    assert tools.main(["validate", "SFT", "a.jsonl"]) == 65
    said = capsys.readouterr().err.splitlines()
    wanted = "field 'completion' is missing, wanted a text that is not empty"
    assert said == [*(f"a.jsonl:{n}: {wanted}" for n in range(1, 11)), "and 2 more"]


def validate_run(tmp_path, **changes):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(config(tmp_path, "uid", **changes).to_wire()))
    return tools.main(["validate", "--run", str(file)])


LACKING = "the training data lacks it; declare cql.actions, or leave the row out"


def step(action):
    return {"state": {"x": 1}, "action": action, "reward": 1, "done": True}


@pytest.mark.parametrize(
    ("train", "other", "block", "message"),
    [
        ("ab", "ab", {}, None),
        ("ab", "abc", {"actions": ["a", "b", "c"]}, None),
        ("aa", "a", {}, "the training data has 1 action, there is nothing to choose"),
        (
            "ab",
            "abc",
            {},
            f"action 'c' is not one of a, b: {LACKING}",
        ),
        ("ab", "c", {"actions": ["a", "b"]}, "pvc://test:1: action 'c' is not one of a, b"),
    ],
)
def test_a_training_is_told_what_it_would_say(tmp_path, capsys, train, other, block, message):
    inputs = []
    for name, actions in (("test", other), ("train", train)):
        path = write(tmp_path / f"{name}.jsonl", map(step, actions))
        inputs.append({"name": name, "uri": f"pvc://{name}", "path": path})
    changes = {"recipe": "CQL", "sft": None, "cql": block, "base": {}, "data": inputs}
    code = validate_run(tmp_path, **changes)
    said = capsys.readouterr()
    assert (code, said.err) == ((0, "") if message is None else (65, f"{message}\n"))
    if message is None:
        assert f"train: {len(train)} rows are what CQL takes" in said.out


def test_a_split_input_is_judged_in_its_parts_and_by_its_checksum(tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", [{"prompt": f"p{n}", "completion": "c"} for n in range(200)])
    split = {"train": 50, "validation": 50}
    source = {"name": "train", "uri": "pvc://a", "path": path, "split": split}
    assert validate_run(tmp_path, data=[source]) == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert sum(int(line.split()[0]) for line in said.values()) == 200
    assert set(said) == {"train", "validation"}
    wrong = {**source, "sha256": "0" * 64}
    other = {"name": "other", "uri": "pvc://b", "path": "/none"}  # read by no training
    assert validate_run(tmp_path, data=[wrong, other]) == 65
    assert "pvc://a has sha256 " in capsys.readouterr().err


def test_a_catalog_lists_data_and_artifacts_and_knows_when_they_change(
    tmp_path, monkeypatch, capsys, artifact
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "b.jsonl", [{"prompt": "p", "chosen": "c", "rejected": "r"}] * 3)
    (tmp_path / "data" / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "data" / "notes.txt").write_text("not data")
    assert tools.main(["catalog", "data", "store", "--output", "c.json"]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    entries = json.loads((tmp_path / "c.json").read_text())
    assert [entry["path"] for entry in entries] == ["data/a.csv", "data/b.jsonl", "store/plans/1"]
    digests = [
        entry["files"].get("", entry["files"].get("policy.json"))["sha256"][:12]
        for entry in entries
    ]
    assert said[0] == f"data/a.csv {digests[0]} 8 a table, 1 rows"
    assert said[1].endswith(" pairs, 3 rows")
    assert said[2].split(" ", 3)[3] == (
        "artifact plans 1, PlanPreference, 2026-01-02T03:04:05Z, exp_1, accepted"
    )
    assert entries[2]["metrics"] == {"accuracy": 0.9}
    assert tools.main(["catalog", "--check", "c.json"]) == 0
    assert capsys.readouterr().out == "all 4 files are as in c.json\n"
    (tmp_path / "data" / "a.csv").unlink()
    (artifact / "preference_model.json").write_text("{ }")
    assert tools.main(["catalog", "--check", "c.json"]) == 65
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "data/a.csv is missing"
    assert lines[1].startswith("store/plans/1/preference_model.json has sha256 ")


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "store" / "plans" / "1"
    folder.mkdir(parents=True)
    (folder / ".claim.json").write_text("{}")
    (folder / "preference_model.json").write_text("{}")
    verdict = {
        "metric": "accuracy",
        "met": True,
        "wanted": ">= 0.5",
        "observed": 0.9,
        "message": "",
    }
    made = {
        "policy": "plans",
        "version": 1,
        "tag": "exp_1",
        "recipe": "PlanPreference",
        "seed": 1,
        "createdAt": "2026-01-02T03:04:05Z",
        "training": {"namespace": "ml", "name": "plans", "uid": "u"},
        "config": {},
        "configSha256": "0" * 64,
        "data": [],
        "metrics": [{"name": "accuracy", "value": 0.9}],
        "exitCriteria": [verdict],
        "packages": {},
        "kind": "PlanPreference",
        "files": [],
    }
    (folder / "policy.json").write_text(json.dumps(made))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["catalog", "none"], 65, "none is no folder\n"),
        (["catalog", "."], 65, "no data and no artifact in .\n"),
        (["catalog"], 78, "name folders, or a catalog: policyctl data catalog --check FILE\n"),
        (["catalog", "--check", "none"], 65, "none is no catalog: [Errno 2] No such file"),
        (["catalog", "--check", "log.jsonl"], 65, "log.jsonl is no catalog: wanted a list of"),
        (["split", "log.jsonl", "--output", "s3://b/k"], 78, "s3:/b/k: write to a folder, and"),
        (["split", "log.jsonl", "--output", "log.jsonl"], 78, "cannot write to log.jsonl: [Err"),
        (["validate", "SFT"], 78, "name a recipe and its files: policyctl data validate SFT FILE"),
        (["validate", "SFT", "none"], 65, "cannot read none: [Errno 2] No such file"),
    ],
)
def test_wrong_commands_say_what_to_write(tmp_path, monkeypatch, capsys, arguments, code, message):
    (tmp_path / "here").mkdir()
    if "log.jsonl" in arguments:
        (tmp_path / "here" / "log.jsonl").write_text('{"a": 1}\n')
    monkeypatch.chdir(tmp_path / "here")
    assert tools.main(arguments) == code
    assert capsys.readouterr().err.startswith(message)
