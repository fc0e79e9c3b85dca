"""What `policyctl data prepare` refuses, and what it leaves behind when it ends early."""

import json
from pathlib import Path

import pytest
from policy_trainer import storage
from policy_trainer.data_tools import __main__ as tools
from trainer.test_prepare import answer, prepare, rows, write

NONE = "none of 1 rows can be used; most of them: a.jsonl:1:"


@pytest.mark.parametrize(
    ("recipe", "content", "options", "code", "message"),
    [
        ("SFT", "", {}, 65, "there are no rows\n"),
        (
            "SFT",
            '{"prompt": "p"}\n',
            {},
            65,
            f"{NONE} field 'completion' is missing, wanted a text that is not empty\n",
        ),
        (
            "SFT",
            '{"prompt": "p", "completion": "c"}\nno\n',
            {"strict": True},
            65,
            "a.jsonl:2 is no JSON: Expecting value: line 1 column 1 (char 0)\n",
        ),
        (
            "CQL",
            '{"state": {}, "action": "fle", "reward": 1, "done": true}\n',
            {"set": 'actions=["flee", "wait"]'},
            65,
            f"{NONE} action 'fle' is not one of flee, wait, did you mean 'flee'?\n",
        ),
        (
            "CQL",
            '{"state": {}, "action": "fly", "reward": NaN, "done": true}\n',
            {"strict": True},
            65,
            "a.jsonl:1: field 'reward' is NaN, wanted a number\n",
        ),
        (
            "CQL",
            '{"state": {}, "action": "fly", "reward": 1, "done": true}\n',
            {"train": 100, "validation": 0, "test": 0},
            65,
            "the training data has 1 action, there is nothing to choose\n",
        ),
        (
            "Classifier",
            '{"churned": "no"}\n',
            {"set": "label=churned", "train": 100, "validation": 0, "test": 0},
            65,
            "'churned' is '1' in 0 of 1 rows: training needs both classes\n",
        ),
        (
            "PlanPreference",
            '{"plan": "p", "feedback": "good"}\n',
            {"train": 100, "validation": 0, "test": 0},
            65,
            "of 1 labelled plans 1 are liked: training needs liked and disliked ones\n",
        ),
        (
            "DPO",
            '{"prompt": "p", "completion": "c", "label": "good"}\n',
            {"train": 100, "validation": 0, "test": 0},
            65,
            "none of 1 prompts has a good and a bad answer, so there are no pairs\n",
        ),
        (
            "GRPO",
            '{"prompt": "p"}\n{"prompt": "p"}\n',
            {"max-rows": 1, "duplicates": "keep"},
            65,
            "more than 1 rows share their prompt: raise --max-rows\n",
        ),
        ("Classifier", "", {}, 78, "Classifier: label: Field required; write --set label=VALUE\n"),
        ("CQL", "", {"set": "actions"}, 78, "--set actions: write --set KEY=VALUE\n"),
        (
            "SFT",
            "",
            {"train": 50},
            78,
            "train 50, validation 10, test 10: must add up to 100, with some for train\n",
        ),
    ],
)
def test_bad_input_ends_with_one_sentence_and_nothing_written(
    tmp_path, monkeypatch, capsys, recipe, content, options, code, message
):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(content)
    flags = [f"--{k}" if v is True else f"--{k}={v}" for k, v in options.items()]
    assert tools.main(["prepare", recipe, "a.jsonl", "--output", "deep/out", *flags]) == code
    assert capsys.readouterr().err == message
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"prompt,completion\na,b\n\xff,c\n", "a.csv is not UTF-8: 'utf-8' codec can't"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz is not a whole gzip file: Not a gzipped file"),
        ("gone.jsonl", None, "cannot read gone.jsonl: [Errno 2] No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_on_ends_it(
    tmp_path, monkeypatch, capsys, name, content, message
):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    assert prepare("SFT", name, output="out") == 65
    assert capsys.readouterr().err.startswith(message)
    assert not Path("out").exists()


class Interrupted:
    """A file in whose middle somebody presses Ctrl-C."""

    def __init__(self):
        self.left = 20

    def readline(self, _limit):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return json.dumps(answer(self.left)).encode() + b"\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_interrupted_it_leaves_what_was_there_before(tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", [answer(n) for n in range(50)])
    assert prepare("SFT", file, output=tmp_path / "out") == 0
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(storage, "open_file", lambda _path: Interrupted())
    assert prepare("SFT", "b.jsonl", output=tmp_path / "out") == 130
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before
    assert prepare("SFT", "b.jsonl", output=tmp_path / "new") == 130
    assert not (tmp_path / "new").exists()


def test_parts_of_an_earlier_run_do_not_stay_beside_new_ones(tmp_path):
    file = write(tmp_path / "a.jsonl", [answer(n) for n in range(100)])
    assert prepare("SFT", file, output=tmp_path / "out") == 0
    assert rows(tmp_path / "out", "test")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert prepare("SFT", file, output=tmp_path / "out", test=0, train=90) == 0
    names = sorted(f.name for f in (tmp_path / "out").iterdir())
    assert names == ["notes.txt", "report.json", "train.jsonl", "validation.jsonl"]
