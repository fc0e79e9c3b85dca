"""Prepared data: a row is kept, or dropped for a reason; the same seed makes the same bytes."""

import gzip
import hashlib
import json
from collections import Counter

import pytest
import real_data
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_api.contract.run import RunInput
from policy_examples import synthesize
from policy_trainer import data
from policy_trainer.data_tools import __main__ as tools
from policy_trainer.data_tools.report import told
from policy_trainer.parts import ROW, Groups, canonical

PARTS = data.PARTS


def write(file, rows):
    file.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return str(file)


def prepare(recipe, *files, output, **options):
    """Run the command; return its exit code."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return tools.main(["prepare", recipe, *map(str, files), "--output", str(output), *flags])


def report(output):
    return json.loads((output / "report.json").read_text())


def rows(output, name="train"):
    file = output / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def every(output):
    return [row for name in PARTS for row in rows(output, name)]


def answer(number, prompt=None):
    return {"prompt": f"p{number if prompt is None else prompt}", "completion": f"c{number}"}


def test_the_report_says_what_was_dropped_and_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = [
        "not json\n",
        "\n",
        answer(1),
        {"prompt": "p"},
        {"prompt": " ", "completion": "c"},
        {"prompt": "p", "completion": "c" * 41},
    ]
    write(tmp_path / "a.jsonl", [*(answer(n) for n in range(4)), *bad, "[1]\n"])
    parts = {"train": 100, "validation": 0, "test": 0}
    assert prepare("SFT", "a.jsonl", output=tmp_path / "out", longest=40, **parts) == 0
    train = (tmp_path / "out" / "train.jsonl").read_bytes()
    found = report(tmp_path / "out")
    assert found.pop("parts")["train"] == {
        "file": "train.jsonl",
        "share": 1.0,
        "sha256": sha256_of(tmp_path / "out" / "train.jsonl"),
        "bytes": len(train),
        "rows": 4,
        "numbers": {
            "characters of completion": {"min": 2, "mean": 2.0, "max": 2},
            "characters of prompt": {"min": 2, "mean": 2.0, "max": 2},
        },
    }
    assert found == {
        "recipe": "SFT",
        "seed": 42,
        "together": "prompt",
        "inputs": [{"file": "a.jsonl", "rows": 10}],
        "read": 10,
        "kept": 4,
        "dropped": [
            {
                "reason": "not readable as a row",
                "rows": 2,
                "first": ["a.jsonl:5", "a.jsonl:11"],
                "example": "a.jsonl:5 is no JSON: Expecting value: line 1 column 1 (char 0)",
            },
            {"reason": "equal to an earlier row", "rows": 1, "first": ["a.jsonl:7"]},
            {
                "reason": "completion: missing",
                "rows": 1,
                "first": ["a.jsonl:8"],
                "example": "a.jsonl:8: field 'completion' is missing, wanted a text that is not "
                "empty",
            },
            {
                "reason": "prompt: bad value",
                "rows": 1,
                "first": ["a.jsonl:9"],
                "example": "a.jsonl:9: field 'prompt' is \" \", wanted a text that is not empty",
            },
            {
                "reason": "completion: bad value",
                "rows": 1,
                "first": ["a.jsonl:10"],
                "example": "a.jsonl:10: field 'completion' has 41 characters, at most 40 are "
                "wanted",
            },
        ],
        "empty": [],
    }


def sha256_of(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


lines = st.one_of(
    st.builds(answer, st.integers(0, 30), st.integers(0, 8)).map(json.dumps),
    st.sampled_from(["[]", "{", '{"prompt": "p"}', '{"prompt": "", "completion": "c"}']),
)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(lines, max_size=60),
    seed=st.integers(0, 3),
    most=st.none() | st.integers(1, 40),
    order=st.randoms(use_true_random=False),
)
def test_no_row_is_lost_and_no_prompt_is_in_two_parts(tmp_path_factory, lines, seed, most, order):
    folder = tmp_path_factory.mktemp("p")
    options = {"seed": seed, **({"max_rows": most} if most else {})}
    file = write(folder / "a.jsonl", [line + "\n" for line in lines])
    code = prepare("SFT", file, output=folder / "out", **options)
    if code == 65:  # nothing can be trained on
        assert not (folder / "out").exists()
        return
    found, kept = report(folder / "out"), every(folder / "out")
    assert found["read"] == len(lines) == len(kept) + sum(d["rows"] for d in found["dropped"])
    assert len(kept) == found["kept"] == len({json.dumps(row) for row in kept})
    assert most is None or len(kept) <= most
    seen = Counter(p for name in PARTS for p in {r["prompt"] for r in rows(folder / "out", name)})
    assert set(seen.values()) == {1}

    order.shuffle(lines)
    again = write(folder / "b.jsonl", [line + "\n" for line in lines])
    assert prepare("SFT", again, output=folder / "again", **options) == 0
    for name in PARTS:
        assert sorted(map(str, rows(folder / "out", name))) == sorted(
            map(str, rows(folder / "again", name))
        )


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(tmp_path):
    file = write(tmp_path / "a.jsonl", [answer(n) for n in range(300)])
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert prepare("SFT", file, output=tmp_path / name, seed=seed, max_rows=100) == 0
        made.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert all(made[0][name] != made[2][name] for name in made[0])


def test_parts_are_those_that_a_training_makes_of_an_input_with_a_split(tmp_path):
    made = [{"churned": n % 2, "age": n} for n in range(200)]
    file = write(tmp_path / "a.jsonl", made)
    wanted = ["--set", "label=churned", "--output", str(tmp_path / "out"), "--seed", "7"]
    assert tools.main(["prepare", "Classifier", file, *wanted]) == 0
    split = {"train": 80, "validation": 10, "test": 10}
    source = RunInput(name="train", uri=file, path=file, split=split)
    for name in PARTS:
        there = [row for row in made if data.part(source, row, Groups(ROW), 7) == name]
        assert there == rows(tmp_path / "out", name)


def test_a_larger_sample_has_all_of_a_smaller_one_and_is_uniform(tmp_path):
    file = write(tmp_path / "a.jsonl", [answer(n) for n in range(4000)])
    for most in (500, 1000):
        assert prepare("SFT", file, output=tmp_path / str(most), max_rows=most) == 0
    small, large = ({r["completion"] for r in every(tmp_path / n)} for n in ("500", "1000"))
    assert len(small) == 500
    assert len(large) == 1000
    assert small < large
    early = sum(int(name[1:]) < 2000 for name in large)
    assert abs(early - 500) < 60  # 4 standard deviations
    parts = report(tmp_path / "1000")["parts"]
    assert abs(parts["train"]["rows"] - 800) < 50
    assert report(tmp_path / "500")["dropped"] == [{"reason": "over --max-rows", "rows": 3500}]


def step(number, *, done, **fields):
    following = None if done else {"x": number + 1}
    base = {"state": {"x": number}, "action": "ab"[number % 2], "reward": 1, "done": done}
    return {**base, "next_state": following, **fields}


def test_an_episode_stays_in_one_part_even_when_a_row_of_it_is_dropped(tmp_path):
    made, episode_of = [], {}
    for episode in range(60):
        for place in range(5):
            number = 5 * episode + place
            episode_of[number] = episode
            bad = {"reward": float("nan")} if place == 4 and episode % 2 else {}
            made.append(step(number, done=place == 4, **bad))
    file = write(tmp_path / "a.jsonl", made)
    assert prepare("CQL", file, output=tmp_path / "out", train=50, validation=25, test=25) == 0
    where = {}
    for name in PARTS:
        for row in rows(tmp_path / "out", name):
            where.setdefault(episode_of[row["state"]["x"]], set()).add(name)
    assert len(where) == 60
    assert all(len(names) == 1 for names in where.values())
    assert report(tmp_path / "out")["kept"] == 270
    assert sum(p["episodes"] for p in report(tmp_path / "out")["parts"].values()) == 30


def test_rows_of_a_group_stay_together_and_keep_the_field(tmp_path):
    made = [step(n, done=False, session=f"s{n % 40}") for n in range(400)]
    made.append(step(1, done=True))
    file = write(tmp_path / "a.jsonl", made)
    assert prepare("CQL", file, output=tmp_path / "out", by="session", train=50, test=40) == 0
    parts = [{row["session"] for row in rows(tmp_path / "out", name)} for name in PARTS]
    assert sum(map(len, parts)) == 40
    assert report(tmp_path / "out")["dropped"][0]["example"].endswith(
        "a.jsonl:401: field 'session' is missing: rows are kept together by it"
    )


def test_equal_decisions_count_unless_they_are_dropped(tmp_path):
    file = write(tmp_path / "a.jsonl", [step(n % 2, done=True) for n in range(10)])
    whole = {"train": 100, "validation": 0, "test": 0}
    for name, options, kept in (("keep", {}, 10), ("drop", {"duplicates": "drop"}, 2)):
        assert prepare("CQL", file, output=tmp_path / name, **whole, **options) == 0
        assert report(tmp_path / name)["kept"] == kept


DECIDED = {
    "input": {"snapshot": {"cpu": 91}, "anomalies": ["queue"], "analysis": "is growing"},
    "output": {"actions": [{"type": "scale_out", "confidence": 0.9, "auto_approved": True}]},
    "label": "good",
}


def test_labelled_decisions_become_answers_or_labelled_answers(tmp_path):
    bad = {**DECIDED, "output": "wait", "label": "bad"}
    file = write(tmp_path / "a.jsonl", [DECIDED, bad, {**bad, "label": "so-so"}])
    whole = {"train": 100, "validation": 0, "test": 0}
    prompt = '{"analysis": "is growing", "anomalies": ["queue"], "snapshot": {"cpu": 91}}'
    good = '{"actions": [{"auto_approved": true, "confidence": 0.9, "type": "scale_out"}]}'
    assert prepare("SFT", file, output=tmp_path / "sft", **whole) == 0
    assert rows(tmp_path / "sft") == [{"prompt": prompt, "completion": good}]
    assert prepare("DPO", file, output=tmp_path / "dpo", **whole) == 0
    assert rows(tmp_path / "dpo") == [
        {"prompt": prompt, "completion": good, "label": "good"},
        {"prompt": prompt, "completion": "wait", "label": "bad"},
    ]
    dropped = [d["reason"] for d in report(tmp_path / "sft")["dropped"]]
    assert sorted(dropped) == ["called bad: nothing to imitate", "label: bad value"]


def test_chats_stay_chats_and_one_question_is_in_one_part(tmp_path):
    def chat(question, answer):
        said = {"role": "assistant", "content": answer}
        return {"messages": [{"role": "user", "content": question}, said]}

    made = [chat(f"q{n % 30}", f"a{n}") for n in range(90)] + [chat("q", "a" * 50)]
    file = write(tmp_path / "a.jsonl", [{**row, "more": 1} for row in made])
    assert prepare("SFT", file, output=tmp_path / "out", longest=40) == 0
    kept = [canonical(row) for row in every(tmp_path / "out")]
    assert sorted(kept) == sorted(map(canonical, made[:-1]))
    asked = [{r["messages"][0]["content"] for r in rows(tmp_path / "out", n)} for n in PARTS]
    assert sum(map(len, asked)) == 30
    files = map(str, (tmp_path / "out").glob("*.jsonl"))
    assert tools.main(["validate", "SFT", *files]) == 0


def test_feedback_on_plans_becomes_labelled_answers_for_larger_models(tmp_path):
    made = [
        {"prompt": "p", "plan": "a", "feedback": "great", "tags": []},
        {"prompt": "p", "plan": "b", "feedback": "not good"},
        {"prompt": "p", "plan": "c", "feedback": "hm"},
    ]
    file = write(tmp_path / "a.jsonl", made)
    whole = {"train": 100, "validation": 0, "test": 0}
    assert prepare("DPO", file, output=tmp_path / "dpo", **whole) == 0
    assert [(r["completion"], r["label"]) for r in rows(tmp_path / "dpo")] == [
        ("a", "good"),
        ("b", "bad"),
    ]
    assert prepare("PlanPreference", file, output=tmp_path / "plans", **whole) == 0
    assert rows(tmp_path / "plans") == made[:2]
    for name in ("dpo", "plans"):
        (dropped,) = report(tmp_path / name)["dropped"]
        assert (dropped["reason"], dropped["rows"]) == ("feedback is neither good nor bad", 1)


def test_packed_files_tables_and_several_inputs_are_read_as_one(tmp_path):
    (tmp_path / "a.csv").write_text("prompt;completion\np1;c1\np2;c2\n")
    lines = "".join(json.dumps(answer(n)) + "\n" for n in (2, 3))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    files = tmp_path / "a.csv", tmp_path / "b.jsonl.gz"
    whole = {"train": 100, "validation": 0, "test": 0}
    assert prepare("SFT", *files, output=tmp_path / "out", **whole) == 0
    assert rows(tmp_path / "out") == [answer(1), answer(2), answer(3)]
    found = report(tmp_path / "out")
    assert [entry["rows"] for entry in found["inputs"]] == [2, 2]


def test_long_cells_of_tables_are_dropped_and_other_cells_have_no_length(tmp_path):
    made = [{"y": n % 2, "prompt": [None, 7, ["x"]][n % 3], "note": "n" * n} for n in range(30)]
    wanted = ["--set", "label=y", "--longest", "20", "--output", str(tmp_path / "out")]
    file = write(tmp_path / "a.jsonl", made)
    assert tools.main(["prepare", "Classifier", file, *wanted, "--test", "0", "--train", "90"]) == 0
    (dropped,) = report(tmp_path / "out")["dropped"]
    assert (dropped["reason"], dropped["rows"]) == ("note: bad value", 9)
    assert report(tmp_path / "out")["kept"] == 21


def test_a_part_without_rows_is_told(tmp_path):
    file = write(tmp_path / "a.jsonl", [answer(n, prompt="one") for n in range(9)])
    assert prepare("SFT", file, output=tmp_path / "out", train=98, validation=1, test=1) == 0
    found = report(tmp_path / "out")
    assert found["empty"] == ["validation", "test"]
    assert list(told(found))[-1] == "test       no rows: give more, or --test 0"


EXAMPLES = [
    ("agent-selection", "CQL", "train.jsonl", ()),
    ("flowlens", "SFT", "decisions.jsonl", ()),
    ("flowlens", "SFT", "labeled_decisions.jsonl", ()),
    ("flowlens", "DPO", "labeled_decisions.jsonl", ()),
    ("plan-preference", "PlanPreference", "train.jsonl", ()),
    ("plan-preference", "RewardModel", "train.jsonl", ()),
    ("retention", "Classifier", "customers.jsonl", ("--set", "label=churned")),
    ("retention", "ConstrainedPPO", "customers.jsonl", ("--set", "value=monthly_charges")),
    ("retention", "RewardModel", "pairs.jsonl", ()),
    ("retention", "PPO", "prompts.jsonl", ()),
    ("review-forge", "GRPO", "prompts.jsonl", ()),
]


@pytest.mark.parametrize(("example", "recipe", "file", "more"), EXAMPLES)
def test_every_system_has_data_that_its_recipe_takes(tmp_path, capsys, example, recipe, file, more):
    synthesize.make(example, tmp_path, 200)
    output = ["--output", str(tmp_path / "out")]
    assert tools.main(["prepare", recipe, str(tmp_path / file), *more, *output]) == 0
    files = sorted(map(str, (tmp_path / "out").glob("*.jsonl")))
    assert tools.main(["validate", recipe, *files, *more]) == 0
    kept = report(tmp_path / "out")["kept"]
    assert capsys.readouterr().out.endswith(f"{kept:,} rows are what {recipe} takes\n")


@real_data.needed
@pytest.mark.parametrize(
    ("file", "label", "rows", "positive", "missing"),
    [
        ("telco-churn/Telco-Customer-Churn.csv", "Churn=Yes", 7043, 1869, {"TotalCharges": 11}),
        ("bank-marketing/bank-additional-full.csv.gz", "output=yes", 41188, 4640, {}),
    ],
    ids=["telco", "bank"],
)
def test_real_tables(tmp_path, file, label, rows, positive, missing):
    column, value = label.split("=")
    wanted = ["--set", f"label={column}", "--set", f"positive={value}", "--output", str(tmp_path)]
    assert tools.main(["prepare", "Classifier", str(real_data.FOLDER / file), *wanted]) == 0
    parts = report(tmp_path)["parts"].values()
    assert (report(tmp_path)["read"], sum(p["rows"] for p in parts)) == (rows, rows)
    assert sum(part["classes"][value] for part in parts) == positive
    found = Counter()
    for part in parts:
        found.update(part.get("missing", {}))
    assert found == missing


@real_data.needed
def test_a_real_cap_keeps_the_classes_balance(tmp_path):
    file = str(real_data.FOLDER / "bank-marketing/bank-additional-full.csv.gz")
    wanted = ["--set", "label=output", "--set", "positive=yes", "--max-rows", "7000"]
    assert tools.main(["prepare", "Classifier", file, *wanted, "--output", str(tmp_path)]) == 0
    found = report(tmp_path)
    assert 6990 < found["kept"] <= 7000
    positive = sum(part["classes"]["yes"] for part in found["parts"].values())
    assert abs(positive / found["kept"] - 4640 / 41188) < 0.016  # 4 standard deviations


@real_data.needed
def test_real_dialogues_without_a_prompt_are_refused_and_with_one_are_pairs(tmp_path, capsys):
    file = real_data.FOLDER / "hh-harmless" / "harmless-base-test.jsonl.gz"
    assert prepare("DPO", file, output=tmp_path / "no") == 65
    assert "jsonl.gz:1: field 'prompt' is missing, wanted a text" in capsys.readouterr().err
    made = []
    for line in gzip.decompress(file.read_bytes()).splitlines():
        said = {name: text.rpartition("\n\nAssistant:") for name, text in json.loads(line).items()}
        made.append({"prompt": said["chosen"][0], **{n: parts[2] for n, parts in said.items()}})
    assert prepare("DPO", write(tmp_path / "a.jsonl", made), output=tmp_path / "out") == 0
    found = report(tmp_path / "out")
    assert found["read"] == 2312
    assert found["kept"] + sum(d["rows"] for d in found["dropped"]) == 2312
    assert found["kept"] > 2250


@real_data.needed
def test_a_real_log_becomes_decisions(tmp_path):
    source = RunInput(name="log", uri="bts", path="bts.csv.gz")
    made = []
    with (real_data.FOLDER / "open-bandit-men" / "bts.csv.gz").open("rb") as file:
        for _, row in data.read(source, file):
            state = {name: row[name] for name in row if name.startswith("user_feature")}
            decided = {"action": f"{row['item_id']}", "reward": row["click"], "done": True}
            made.append({"state": state, **decided, "propensity": row["propensity_score"]})
    written = write(tmp_path / "a.jsonl", made)
    assert prepare("CQL", written, output=tmp_path / "out") == 0
    found = report(tmp_path / "out")
    assert (found["read"], found["kept"], found["dropped"]) == (10_000, 10_000, [])
    assert found["parts"]["train"]["numbers"]["reward"]["max"] == 1
