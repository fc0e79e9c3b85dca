"""`policyctl data` runs where torch is not installed, and leaves nothing when it is stopped."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from cli.test_manifests import document, write
from policyctl import main as cli

ROW = {"plan": "test it", "feedback": "good"}


def lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_data_is_prepared_by_the_trainer(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "log.jsonl", [{**ROW, "plan": f"p{n}"} for n in range(40)] + [ROW, {}])
    lines(tmp_path / "more.jsonl", [{"plan": f"q{n}", "feedback": "bad"} for n in range(40)])
    command = ["data", "prepare", "PlanPreference", "log.jsonl", "more.jsonl", "--output", "out"]
    assert cli.main(command) == 0
    assert "field 'plan' is missing" in capfd.readouterr().out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kept"] == 81
    assert cli.main(["data", "validate", "PlanPreference", "log.jsonl"]) == 65


def policyctl(*arguments):
    """Start the command as a program of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "policyctl", "data", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)


def test_rows_come_from_a_pipe_as_well(tmp_path):
    child = policyctl("split", "-", "--output", tmp_path / "out", "--test", 0, "--validation", 20)
    child.communicate("".join(json.dumps({"a": n}) + "\n" for n in range(50)))
    assert child.returncode == 0
    made = [(tmp_path / "out" / f"{n}.jsonl").read_text() for n in ("train", "validation")]
    assert "".join(made).count("\n") == 50


def test_stopped_in_the_middle_it_leaves_nothing(tmp_path):
    feed, output = tmp_path / "log.jsonl", tmp_path / "out"
    os.mkfifo(feed)
    row = json.dumps({"prompt": "p", "completion": "c"}).encode() + b"\n"
    with (
        policyctl("prepare", "SFT", feed, "--output", output) as child,
        feed.open("wb", buffering=0) as writer,  # opens when it is opened to be read
    ):
        writer.write(row)
        assert next(entry.name for entry in output.iterdir()).startswith(".partial-")
        child.send_signal(signal.SIGTERM)
        # A signal that comes just before a read does not interrupt it: Python looks once it has.
        with contextlib.suppress(BrokenPipeError):
            while child.poll() is None:
                writer.write(row)
        assert child.wait(20) == 128 + signal.SIGTERM
    assert not output.exists()


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        (
            [ROW, {"plan": "skip it", "feedback": "bad"}],
            0,
            "prefs: recipe PlanPreference\ntrain: 2 rows are what PlanPreference takes\n",
        ),
        ([ROW], 65, "of 1 labelled plans 1 are liked: training needs liked and disliked ones\n"),
        ([ROW, {"plan": 7}], 65, "pvc://claim/t.jsonl:2: field 'plan' is 7, wanted a text"),
    ],
)
def test_a_manifest_is_checked_with_its_data(tmp_path, monkeypatch, capfd, rows, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v" / "claim").mkdir(parents=True)
    lines(tmp_path / "v" / "claim" / "t.jsonl", rows)
    data = [{"name": "train", "uri": "pvc://claim/t.jsonl"}]
    file = write(tmp_path, document("prefs", data=data))
    assert cli.main(["validate", file, "--data", "--volumes", "v"]) == code
    found = capfd.readouterr()
    assert said in found.out + found.err
