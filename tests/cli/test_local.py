"""`policyctl train --local` with the real trainer: trains, judges, stops, goes on, chains."""

import json
import os
import signal
import subprocess
import sys

import pytest
from cli.test_manifests import document, write
from policyctl import main as cli
from trainer import agents

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data, where the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, count in (("train", 200), ("validation", 60)):
        rows = (
            {
                "plan": f"step {n % 7} {('tested', 'vague')[n % 2]}",
                "feedback": ("good", "bad")[n % 2],
            }
            for n in range(count)
        )
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


DATA = [{"name": n, "uri": f"file://{n}.jsonl"} for n in ("train", "validation")]


def prefs(folder, **changes):
    return write(folder, document(**{"data": DATA, **changes}))


def test_it_trains_judges_and_says_where_the_version_is(here, capsys):
    file = prefs(here, exitCriteria=[{"metric": "accuracy", "min": 0.9}])
    assert cli.main(["train", file, "--local"]) == 0
    said = capsys.readouterr()
    folder = here / "volumes" / "artifacts" / "policies" / "plans" / "1"
    assert said.out.splitlines()[-1] == f"prefs: plans version 1, accepted: {folder}"
    assert "  met: accuracy 1, wanted >= 0.9" in said.out
    assert "step 2/2" in said.err
    assert cli.main(["artifact", "verify", str(folder)]) == 0
    assert "all 1 files are as written" in capsys.readouterr().out
    assert cli.main(["artifact", "show", str(folder)]) == 0
    assert "verdict    accepted: all 1 exit criteria met" in capsys.readouterr().out

    (folder / "preference_model.json").write_text("{}")
    (folder / "more.txt").write_text("")
    assert cli.main(["artifact", "verify", str(folder)]) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err.count(f"{folder}: ") == 2

    assert cli.main(["train", file, "--local", "--again"]) == 0  # another version
    assert "plans version 2, accepted" in capsys.readouterr().out


def test_unmet_criteria_are_exit_code_3_unless_they_are_kept(here, capsys):
    criteria = [{"metric": "accuracy", "max": 0.5}, {"metric": "no_such", "min": 0}]
    assert cli.main(["train", prefs(here, exitCriteria=criteria), "--local"]) == 3
    said = capsys.readouterr().out
    assert "  NOT met: accuracy 1, wanted <= 0.5" in said
    assert "  NOT met: no_such the trainer reported no metric 'no_such', wanted >= 0" in said
    kept = prefs(here, exitCriteria=criteria, onUnmet="Keep")
    assert cli.main(["train", kept, "--local"]) == 0


def test_bad_data_is_told_with_its_line_and_leaves_nothing(here, capsys):
    (here / "train.jsonl").write_text("not json\n")
    assert cli.main(["train", prefs(here), "--local"]) == 65
    assert "prefs: DataInvalid (data[train] row 1): file://train.jsonl:1" in capsys.readouterr().out
    assert not (here / "volumes" / "artifacts" / "policies" / "plans").exists()


def test_a_chain_runs_in_its_order(here, capsys):
    agents.write(here / "decisions.jsonl", 200, seed=1)
    data = [{"name": "train", "uri": "file://decisions.jsonl"}]
    fields = {"recipe": "CQL", "planPreference": None, "data": data}
    block = {"maxSteps": 20, "hidden": [8]}
    first = document("first", cql=block, **fields)
    second = document("second", cql=block, base={"training": {"name": "first"}}, **fields)
    assert cli.main(["train", write(here, second, first), "--local"]) == 0
    said = capsys.readouterr().out
    assert said.index("first: plans version 1") < said.index("second: plans version 2")
    made = here / "volumes" / "artifacts" / "policies" / "plans" / "2" / "policy.json"
    assert json.loads(made.read_bytes())["parent"]["version"] == 1

    assert cli.main(["train", write(here, second, first), "--local"]) == 0
    assert "second: plans version 2" in capsys.readouterr().out  # nothing has changed
    assert cli.main(["train", write(here, first), "--local", "--again"]) == 0
    assert cli.main(["train", write(here, second, first), "--local"]) == 0
    assert "second: plans version 4" in capsys.readouterr().out  # its base has


def test_a_stop_is_a_checkpoint_from_which_the_same_command_goes_on(here):
    agents.write(here / "decisions.jsonl", 200, seed=1)
    data = [{"name": "train", "uri": "file://decisions.jsonl"}]
    block = {"maxSteps": 30_000, "hidden": [8]}
    file = write(here, document(recipe="CQL", planPreference=None, cql=block, data=data))
    command = [sys.executable, "-m", "policyctl", "train", file, "--local"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "step " in first.stderr.readline()  # it runs
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 75, said
    assert "run the same command again to go on" in said
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stdout
    made = next((here / "volumes" / "attempts").glob("prefs-*")) / "report.json"
    assert json.loads(made.read_bytes())["resumedFromStep"] > 0
