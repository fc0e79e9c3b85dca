"""`policyctl judge`: rows in, rows out, and a sentence for whatever cannot be judged."""

import json

import pytest
from policy_trainer.judge import __main__ as program
from policy_trainer.judge import lessons
from policyctl import main as cli
from trainer import jury
from trainer.judge_server import BAD, GOOD, serve

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(120)]

SAFE, RISKY, OTHER = "Deploy, with a rollback.", "Deploy it.", "Restart it."


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("POLICYOPS_JUDGE_KEY", raising=False)
    with serve() as made:
        yield made


@pytest.fixture
def rows(tmp_path):
    """Return what writes rows to a file and returns its name."""

    def write(*some):
        return str(jury.write(tmp_path / "rows.jsonl", list(some)))

    return write


@pytest.fixture
def judge(server, capsys, tmp_path):
    """Return what runs a command against the server: its code, its rows or text, what it said."""

    def run(command, file, *options):
        asked = ["--endpoint", server.url, "--model", "rule", "--criterion", "safety=It is safe."]
        code = program.main([command, file, *asked, *options])
        written = capsys.readouterr()
        out = written.out
        return code, [json.loads(x) for x in out.splitlines() if x[0] == "{"] or out, written.err

    return run


def test_score_adds_ratings_and_keeps_the_rest_of_a_row(judge, rows):
    file = rows({"prompt": "p", "completion": SAFE, "id": 7}, {"prompt": "p", "completion": RISKY})
    code, (first, second), said = judge("score", file, "--criterion", "clarity=It is clear.")
    assert code == 0
    assert first == {
        "prompt": "p",
        "completion": SAFE,
        "id": 7,
        "ratings": {"safety": GOOD, "clarity": GOOD},
        "score": GOOD,
        "reason": "by the rule",
    }
    assert second["score"] == BAD
    assert said.startswith("2 questions asked, 0 known; 2 requests, ")


def test_policyctl_judges_as_a_program_of_the_trainer(server, rows, capfd, tmp_path):
    output, cache = tmp_path / "scored.jsonl", tmp_path / "cache.jsonl"
    command = ["judge", "score", rows({"prompt": "p", "completion": SAFE}), "--cache", str(cache)]
    command += ["--endpoint", server.url, "--model", "rule", "--criterion", "safety=It is safe."]
    command += ["--output", str(output), "--usd-per-million-output-tokens", "50000"]
    assert cli.main(command) == 0
    assert json.loads(output.read_text())["score"] == GOOD
    assert "1 questions asked, 0 known; 1 requests" in (said := capfd.readouterr().err)
    assert said.rstrip().endswith("20 written, 1 USD")
    assert program.main(command[1:]) == 0
    assert "0 questions asked, 1 known; 0 requests" in capfd.readouterr().err
    assert len(server.requests) == 1


@pytest.mark.parametrize("names", [("a", "b"), ("chosen", "rejected")])
def test_compare_names_the_better_field(judge, rows, names):
    def row(first, second):
        return {"prompt": "p", names[0]: first, names[1]: second}

    file = rows(row(RISKY, SAFE), row(SAFE, RISKY), row(RISKY, OTHER))
    _, found, said = judge("compare", file)
    assert [one["winner"] for one in found] == [names[1], names[0], "tie"]
    assert "3 pairs compared; the two orders disagree on 0 (0.0%)" in said


def test_compare_says_how_often_order_decided(server, judge, rows):
    server.biased = True
    file = rows({"prompt": "p", "a": RISKY, "b": SAFE}, {"prompt": "q", "a": SAFE, "b": RISKY})
    _, found, said = judge("compare", file)
    assert [(one["winner"], one["consistent"]) for one in found] == [("tie", False)] * 2
    assert "the two orders disagree on 2 (100.0%)" in said


def test_pairs_are_what_dpo_takes_and_every_dropped_prompt_has_its_reason(judge, rows):
    file = rows(
        {"prompt": "all in one", "completions": [RISKY, SAFE, OTHER]},
        {"prompt": "row by row", "completion": SAFE},
        {"prompt": "alone", "completion": SAFE},
        {"prompt": "row by row", "completion": RISKY},
        {"prompt": "alike", "completions": [RISKY, OTHER]},
    )
    _, found, said = judge("pairs", file)
    assert [set(one) for one in found] == [{"prompt", "chosen", "rejected"}] * 2
    assert [(one["prompt"], one["chosen"]) for one in found] == [
        ("all in one", SAFE),
        ("row by row", SAFE),
    ]
    assert "2 pairs of 4 prompts" in said
    assert "dropped 1: one answer" in said
    assert "dropped 1: ratings less than 1 apart" in said


def test_pairs_whose_comparison_depends_on_the_order_are_dropped(server, judge, rows):
    server.biased = True
    _, found, said = judge("pairs", rows({"prompt": "p", "completions": [RISKY, SAFE]}))
    assert found == ""
    assert "dropped 1: the two orders disagree" in said


def test_a_margin_that_is_wider_than_the_ratings_makes_no_pair(judge, rows):
    file = rows({"prompt": "p", "completions": [RISKY, SAFE]})
    _, found, said = judge("pairs", file, "--margin", "7.5")
    assert found == ""
    assert "dropped 1: ratings less than 7.5 apart" in said


def labelled(wrong):
    """Return sixteen answers with labels, of which some are not what the rule says."""
    made = []
    for number in range(16):
        good = number % 2 == 0
        label = good != (number < wrong)
        text = f"{number}: {SAFE if good else RISKY}"
        made.append({"prompt": "p", "completion": text, "label": "good" if label else "bad"})
    return made


def test_agreement_counts_what_chance_would_give(judge, rows):
    _, said, _ = judge("agreement", rows(*labelled(wrong=4)))
    accuracy, kappa, head, bad, good = said.splitlines()
    assert accuracy.split()[:2] == ["accuracy", "0.75"]
    assert kappa.split()[:2] == ["kappa", "0.5"]  # (0.75 - 0.5) / (1 - 0.5)
    assert head.split() == ["people", "bad", "good", "(judge)"]
    assert (bad.split(), good.split()) == (["bad", "6", "2"], ["good", "2", "6"])


def test_agreement_on_preferences_has_no_better_side(judge, rows):
    some = [{"prompt": f"{n}", "chosen": SAFE, "rejected": RISKY} for n in range(8)]
    some.append({"prompt": "p", "chosen": RISKY, "rejected": OTHER})
    _, said, _ = judge("agreement", rows(*some))
    accuracy, _, orders, _, a, b, tie = said.splitlines()
    assert float(accuracy.split()[1]) == pytest.approx(8 / 9, abs=1e-3)
    assert orders == "the two orders disagree on 0.0%"
    assert (a.split(), b.split()) == (["a", "4", "0", "1"], ["b", "0", "4", "0"])
    assert tie.split() == ["tie", "0", "0", "0"]


def test_a_judge_that_always_says_the_same_does_not_agree(server, judge, rows):
    server.biased = True
    some = [{"prompt": f"{n}", "chosen": SAFE, "rejected": RISKY} for n in range(8)]
    _, said, _ = judge("agreement", rows(*some))
    assert said.splitlines()[1].split()[:2] == ["kappa", "0"]
    assert "the two orders disagree on 100.0%" in said


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"completion": SAFE, "ratings": {"safety": 7.6}}, ["8"]),
        ({"completion": SAFE, "label": "bad"}, ["1"]),
        ({"chosen": SAFE, "rejected": RISKY}, ["A", "B"]),
        ({"a": SAFE, "b": RISKY, "label": "b"}, ["B", "A"]),
        ({"a": SAFE, "b": RISKY, "label": "tie"}, ["tie", "tie"]),
    ],
)
def test_teach_writes_what_a_judge_is_asked_and_should_say(rows, capsys, row, wanted):
    file = rows({"prompt": "p", **row})
    assert program.main(["teach", file, "--criterion", "safety=It is safe."]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["completion"] for one in found] == wanted
    assert all("safety: It is safe." in one["prompt"] for one in found)
    assert lessons.EXTREMES == {"good": 10, "bad": 1}


@pytest.mark.parametrize(
    ("command", "row", "sentence"),
    [
        ("score", {"prompt": "p"}, "rows.jsonl:1: field 'completion' is missing, wanted a text"),
        ("compare", {"prompt": "p", "a": "x"}, "rows.jsonl:1: field 'b' is missing"),
        ("pairs", {"prompt": "p", "completions": "x"}, "field 'completions' is no list of texts"),
        (
            "agreement",
            {"prompt": "p", "completion": "x", "label": "fine"},
            "rows.jsonl:1: field 'label' is 'fine', wanted good or bad",
        ),
        (
            "agreement",
            {"prompt": "p", "a": "x", "b": "y", "label": "good"},
            "field 'label' is 'good', wanted a or b or tie",
        ),
        (
            "agreement",
            {"prompt": "p", "completion": "x", "label": "good"},
            "all 1 labels are 'good': agreement needs rows of another, too",
        ),
    ],
)
def test_a_row_that_cannot_be_judged_is_named_with_exit_code_65(
    judge, rows, command, row, sentence
):
    code, _, said = judge(command, rows(row))
    assert code == 65
    assert sentence in said


def test_a_rating_out_of_bounds_teaches_nothing(rows, capsys):
    file = rows({"prompt": "p", "completion": "x", "ratings": {"safety": 11}})
    assert program.main(["teach", file, "--criterion", "safety=It is safe."]) == 65
    assert "ratings.safety is 11, wanted a number from 1 to 10" in capsys.readouterr().err


def test_a_judge_that_cannot_be_asked_is_named_with_exit_code_78(judge, rows):
    code, _, said = judge("score", rows({"prompt": "p", "completion": "x"}), "--model", "large")
    assert code == 78
    assert said.startswith("there is no judge large at http://127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--endpoint", "https://x/v1"], "--endpoint needs --model"),
        (["--endpoint", "http://x.com/v1", "--model", "m"], "--endpoint: url must be https://"),
        (["--endpoint", "https://x/v1", "--model", "m", "--max-usd", "1"], "needs a price"),
        (["--local", "m", "--model", "m"], "--model, --max-usd and prices are for --endpoint"),
        (["--local", "m", "--endpoint", "https://x/v1"], "not allowed with argument"),
        (["--local", "m", "--criterion", "safety=Twice."], "two --criterion have the same name"),
        (["--local", "m", "--criterion", "Very Safe=x"], "is not NAME=DESCRIPTION"),
        (["--local", "m", "--output", "no/such/file"], "there is no folder no/such"),
        ([], "one of the arguments --endpoint --local is required"),
    ],
)
def test_options_that_do_not_fit_are_named_with_exit_code_2(capsys, options, sentence):
    with pytest.raises(SystemExit) as ended:
        program.main(["score", "rows.jsonl", "--criterion", "safety=It is safe.", *options])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
