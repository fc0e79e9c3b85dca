"""`policyctl log`, `feedback` and `outcome`: on a log of both kinds, and on a server that runs."""

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cli.test_serving import serving  # noqa: F401 - a fixture
from policy_records.database import connect, parse
from policy_records.entries import DecisionEntry, FeedbackEntry, Label, OutcomeEntry, Owner
from policy_records.ids import uuid7
from policy_records.schema import migrate
from policy_records.writing import count_late, write
from policyctl import main as cli
from policyctl import records
from policyctl.local import environment

from models import golden

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ME = Owner("local", "agents")


def decision(**known):
    values = {"at": NOW, "policy": "agents", "version": 3, "role": "stable", "mode": "Primary"}
    values |= {"source": "policy", "valid": True, "latency_ms": 1.5, "id": uuid7()}
    return DecisionEntry(**(values | {"state": {"a": 1}, "action": "page"} | known))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLICYCTL_LOG", raising=False)
    return tmp_path / "decisions.sqlite3"


@pytest.fixture
def engine(file):
    made = connect(parse(str(file)))
    migrate(made)
    yield made
    made.dispose()


def run(capsys, *arguments):
    code = cli.main(["log", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_latest_are_a_table_and_one_is_told_whole(engine, capsys):
    first = decision(confidence=0.5)
    second = decision(at=NOW + timedelta(seconds=1), action=None, answer="a\nb" * 99, run_id="r")
    write(engine, ME, [first, second, OutcomeEntry(first.id, NOW, reward=-1.5)])
    word = FeedbackEntry(uuid7(), NOW, run_id="r", label=Label.NEGATIVE)
    write(engine, ME, [word])
    code, out, _ = run(capsys, "show")
    head, newest, oldest = out.splitlines()
    assert code == 0
    assert head.split()[:2] == ["DECISION", "AT"]
    assert newest.split()[0] == str(second.id)
    assert "…" in newest
    assert newest.endswith("Negative")
    assert oldest.split()[-5:] == ["policy", "page", "0.50", "-1.5", "-"]
    _, out, _ = run(capsys, "show", "--last", "1")
    assert len(out.splitlines()) == 2
    _, out, _ = run(capsys, "show", str(first.id))
    found = json.loads(out)
    assert (found["decisionId"], found["state"]) == (str(first.id), {"a": 1})
    assert found["outcome"] == {"at": "2026-11-01T12:00:00.000Z", "reward": -1.5}


def test_an_export_is_in_order_and_of_a_span(engine, capsys, tmp_path):
    entries = [
        decision(at=NOW + timedelta(hours=hour), run_id=f"r{hour}", propensity=0.5)
        for hour in range(2500)
    ]
    write(engine, ME, entries)
    told = [OutcomeEntry(e.id, NOW, reward=float(i)) for i, e in enumerate(entries)]
    words = [FeedbackEntry(uuid7(), NOW, run_id="r2100", label=Label.POSITIVE)]
    write(engine, ME, [*told, *words])
    file = tmp_path / "out.jsonl"
    code, out, _ = run(capsys, "export", "--output", str(file))
    assert (code, out) == (0, f"{file}: 2,500 rows\n")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["decisionId"] for row in found] == [str(e.id) for e in entries]
    assert [row["outcome"]["reward"] for row in found] == list(range(2500))
    assert [i for i, row in enumerate(found) if row["feedback"]] == [2100]
    _, out, _ = run(capsys, "export", "--since", "2026-11-02", "--until", "2026-11-02T02:00:00Z")
    assert len(out.splitlines()) == 2
    _, out, _ = run(capsys, "export", "--for", "CQL", "--until", "2026-11-01T13:00:00")
    assert json.loads(out) == {
        "state": {"a": 1},
        "action": "page",
        "reward": 0.0,
        "next_state": None,
        "done": True,
        "propensity": 0.5,
    }


def test_a_label_is_kept_for_a_server_to_count(engine, capsys):
    one = decision()
    write(engine, ME, [one])
    code, out, _ = run(capsys, "label", str(one.id), "--bad", "--corrected", "ignore")
    assert (code, out) == (0, f"{one.id}: Negative\n")
    (news,) = count_late(engine, ME).news
    assert (news.label, news.overridden, news.version) == (Label.NEGATIVE, True, 3)
    assert count_late(engine, ME).news == []
    assert json.loads(run(capsys, "show", str(one.id))[1])["feedback"][0]["correctedAction"]


def test_a_person_is_asked_of_what_nobody_has_labelled(engine, capsys, monkeypatch):
    entries = [decision(at=NOW + timedelta(seconds=s), state={"n": s}) for s in range(4)]
    write(engine, ME, entries)
    typed = iter(["g", "s", "B", "q"])
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or next(typed))
    assert run(capsys, "label")[1] == "2 labelled\n"
    assert ['{"n": 3}' in asked[0], '{"n": 1}' in asked[2]] == [True, True]
    assert "answered: page" in asked[0]
    left = iter(["q"])
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or next(left))
    run(capsys, "label")
    assert '{"n": 2}' in asked[-1]  # the newest that has no label


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "x"], "x is no decision's id, which is a UUID"),
        (["show", str(uuid.UUID(int=1))], f"the log has no decision {uuid.UUID(int=1)}"),
        (["label", str(uuid.UUID(int=1)), "--good"], "the log has no decision "),
        (["label", str(uuid.UUID(int=1))], "say --good or --bad"),
        (["show", "--of", "plans"], "the log has no decisions of plans: it has agents"),
        (["export", "--since", "soon"], "soon is no time: write 2026-01-31 or 2026-01-31T12:00"),
        (["show", "--log", "none.db"], "there is no decision log in none.db: `policyctl serve`"),
        (
            ["show", "--log", "postgresql://a:hunter2@b/c"],
            "set POLICYCTL_LOG to a URL with a password: others read the arguments",
        ),
        (["show", "--log", "mysql://b/c"], "the decision log's URL starts with mysql"),
        (["show", "--log", "postgresql://a@127.0.0.1:1/c"], "the decision log can't be read: "),
    ],
)
def test_what_can_not_be_read_is_told(engine, capsys, arguments, sentence):
    write(engine, ME, [decision()])
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith(sentence)
    assert "hunter2" not in err


def test_of_several_policies_one_is_named(engine, capsys):
    write(engine, ME, [decision()])
    write(engine, Owner("ml", "plans"), [decision(policy="plans")])
    code, _, err = run(capsys, "show")
    assert (code, err) == (
        2,
        "the log has several policies: name one with --of: it has agents, ml/plans\n",
    )
    assert len(run(capsys, "show", "--of", "ml/plans")[1].splitlines()) == 2


def test_a_file_that_is_no_log_is_told(file, capsys):
    file.write_text("not a database, whatever its name says, and long enough to be read as one")
    assert run(capsys, "show")[2].startswith("the decision log can't be read: ")


def test_a_url_with_a_password_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("POLICYCTL_LOG", "postgresql://a:b@c/d")
    assert records.url_of(None) == "postgresql://a:b@c/d"
    assert records.url_of("x.sqlite3") == "x.sqlite3"


def test_from_decision_to_rows(serving, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLICYCTL_LOG", raising=False)
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0")
    line = child.stdout.readline()
    assert "keeps decisions in decisions.sqlite3" in line
    server = line.split()[5].removesuffix("/v1/decisions")
    asked = {"candidates": ["a vague plan", "a tested plan"], "runId": "r-1"}
    made = asked_of(server, asked)

    def said(*arguments):
        code = cli.main([*arguments, "--server", server])
        found = capsys.readouterr()
        return code, found.out or found.err

    assert said("feedback", "not good", "--run", "r-1")[1].endswith(": Negative\n")
    assert said("feedback", "--decision", made, "--tag", "pos")[1].endswith(": Positive\n")
    assert said("outcome", made, "--reward", "1", "--no-success") == (
        0,
        f"kept for decision {made}\n",
    )
    assert said("outcome", made) == (
        2,
        "set at least one of reward, success, followed, nextState and done\n",
    )
    assert said("outcome", "x", "--success") == (
        2,
        "a decisionId is a UUID, as POST /v1/decisions answers it\n",
    )
    code, out = said("feedback", "good", "--run", "r", "--label", "Positive")
    assert (code, out.split()[-1]) == (0, "Positive")
    _, out, _ = run(capsys, "export", "--for", "PlanPreference")
    assert [json.loads(row) for row in out.splitlines()] == [
        {"plan": "a tested plan", "feedback": "not good", "tags": ["neg"]},
        {"plan": "a tested plan", "feedback": "", "tags": ["pos"]},
    ]


def asked_of(server, asked):
    return httpx.post(f"{server}/v1/decisions", json=asked).json()["decisionId"]


def test_a_server_that_is_not_there_is_told(capsys):
    code = cli.main(["feedback", "good", "--run", "r", "--server", "http://127.0.0.1:1"])
    assert code == 2
    assert capsys.readouterr().err.startswith("http://127.0.0.1:1 can't be reached (")


def test_the_token_of_a_file_is_sent(serving, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# ours\nshop {'a' * 32}\n")
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0", "--token-file", str(tokens))
    server = child.stdout.readline().split()[5].removesuffix("/v1/decisions")
    told = ["feedback", "good", "--run", "r", "--server", server]
    assert cli.main(told) == 2
    assert capsys.readouterr().err.startswith("send a token of this policy's callers")
    assert cli.main([*told, "--token-file", str(tokens)]) == 0


def test_who_reads_may_have_enough(engine, file):
    write(engine, ME, [decision(state={"a": "x" * 999}) for _ in range(2000)])
    command = f"{sys.executable} -m policyctl log export | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=environment(),
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
