"""Data is checked row by row, and an error names the file, the row and the field."""

import gzip
import hashlib
import io
import json

import pytest
from policy_api.contract.run import RunInput
from policy_trainer import data
from policy_trainer.errors import DataInvalidError
from trainer.worlds import config

GOOD = '{"prompt": "p", "completion": "c", "quality": "good"}'


def source(path, **fields):
    return RunInput(name="train", uri="pvc://claim/train.jsonl", path=str(path), **fields)


def load(tmp_path, content, **fields):
    file = tmp_path / "train.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.load(source(file, **fields), data.texts("prompt", "completion"))


def test_rows_are_read_and_other_fields_left_out(tmp_path):
    loaded = load(tmp_path, f"{GOOD}\n\n{GOOD}\n")
    assert loaded.rows == [{"prompt": "p", "completion": "c"}] * 2
    assert loaded.used.rows == 2
    assert loaded.used.uri == "pvc://claim/train.jsonl"
    assert loaded.used.sha256 == hashlib.sha256(f"{GOOD}\n\n{GOOD}\n".encode()).hexdigest()


def test_a_cap_leaves_later_rows_unread_but_the_checksum_is_of_the_whole_file(tmp_path):
    content = f"{GOOD}\nnot json\n"
    wanted = hashlib.sha256(content.encode()).hexdigest()
    assert load(tmp_path, content, max_rows=1, sha256=wanted).used.rows == 1


@pytest.mark.parametrize(
    ("content", "message", "field"),
    [
        (f"{GOOD}\nnot json", "train.jsonl:2 is no JSON", "data[train] row 2"),
        ('{"prompt": "\xff"}'.encode("latin-1"), "train.jsonl:1 is no JSON", "data[train] row 1"),
        (f"{GOOD}\n[1]", "train.jsonl:2 is a list, wanted an object", "data[train] row 2"),
        (f"{GOOD}\n7", "train.jsonl:2 is a int", "data[train] row 2"),
        (
            '{"prompt": "p"}',
            "train.jsonl:1: field 'completion' is missing",
            "data[train] row 1 field completion",
        ),
        (
            '\n{"prompt": 7, "completion": "c"}',
            "train.jsonl:2: field 'prompt' is 7, wanted a text",
            "data[train] row 2 field prompt",
        ),
        (
            '{"prompt": " ", "completion": "c"}',
            "field 'prompt' is \" \"",
            "data[train] row 1 field prompt",
        ),
        ("", "has no rows", "data[train]"),
        ("\n \n", "has no rows", "data[train]"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, message, field):
    with pytest.raises(DataInvalidError) as error:
        load(tmp_path, content)
    assert message in error.value.message
    assert error.value.field == field


def test_another_file_than_the_wanted_one_is_refused(tmp_path):
    with pytest.raises(DataInvalidError, match=r"has sha256 .* wanted aaaa") as error:
        load(tmp_path, GOOD, sha256="a" * 64)
    assert error.value.field == "data[train].sha256"


def test_a_missing_file_is_named_by_its_uri(tmp_path):
    with pytest.raises(DataInvalidError, match=r"cannot read pvc://claim/train\.jsonl") as error:
        data.load(source(tmp_path / "none"), data.texts("prompt"))
    assert error.value.field == "data[train]"


def test_a_large_file_is_read_whole(tmp_path):
    rows = "\n".join(json.dumps({"prompt": f"p{n}", "completion": "c"}) for n in range(5000))
    assert load(tmp_path, rows).rows[-1]["prompt"] == "p4999"


def run(tmp_path, content, name="train.jsonl", **fields):
    """A run whose only input is this file."""
    file = tmp_path / name
    file.write_bytes(content)
    made = config(tmp_path, "uid", planPreference={}, recipe="PlanPreference", sft=None, base={})
    read = RunInput(name="train", uri=f"pvc://claim/{name}", path=str(file), **fields)
    return made.model_copy(update={"data": (read,)})


def any_row(row, _place):
    return row


def lines(count):
    return "".join(json.dumps({"plan": f"p{n}"}) + "\n" for n in range(count)).encode()


def test_a_split_holds_rows_out_by_their_content_and_the_seed(tmp_path):
    split = {"train": 60, "validation": 30, "test": 10}
    loaded = data.load_all(run(tmp_path, lines(2000), split=split), any_row)
    sizes = {name: len(part.rows) for name, part in loaded.items()}
    assert sum(sizes.values()) == 2000
    assert abs(sizes["train"] - 1200) < 90
    assert abs(sizes["validation"] - 600) < 90
    assert {name: part.used.rows for name, part in loaded.items()} == sizes
    shuffled = b"\n".join(sorted(lines(2000).splitlines(), reverse=True))
    again = data.load_all(run(tmp_path, shuffled, split=split), any_row)
    for name, part in loaded.items():
        assert sorted(map(str, part.rows)) == sorted(map(str, again[name].rows))


def test_equal_rows_are_never_in_two_parts(tmp_path):
    split = {"train": 50, "validation": 50}
    loaded = data.load_all(run(tmp_path, lines(50) * 4, split=split), any_row)
    parts = [{row["plan"] for row in loaded[name].rows} for name in ("train", "validation")]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 50


@pytest.mark.parametrize(
    ("recipe", "block", "rows", "shared"),
    [
        (
            "DPO",
            "dpo",
            [{"prompt": f"p{n % 40}", "chosen": f"a{n}", "rejected": "b"} for n in range(200)],
            lambda row: row["prompt"],
        ),
        (
            "CQL",
            "cql",
            [
                {"state": {"n": n // 4}, "action": "a", "reward": n, "done": n % 4 == 3}
                for n in range(200)
            ],
            lambda row: row["state"]["n"],
        ),
    ],
)
def test_rows_of_one_prompt_or_episode_are_never_in_two_parts(
    tmp_path, recipe, block, rows, shared
):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    made = run(tmp_path, content, split={"train": 50, "validation": 50})
    found = config(tmp_path, "uid", recipe=recipe, sft=None, **{block: {}})
    loaded = data.load_all(found.model_copy(update={"data": made.data}), any_row)
    parts = [{shared(row) for row in loaded[name].rows} for name in ("train", "validation")]
    assert min(map(len, parts)) > 10
    assert not parts[0] & parts[1]


def test_a_part_that_is_an_input_as_well_is_refused(tmp_path):
    made = run(tmp_path, lines(20), split={"train": 50, "validation": 50})
    other = made.data[0].model_copy(update={"name": "validation", "split": None})
    both = made.model_copy(update={"data": (*made.data, other)})
    with pytest.raises(DataInvalidError, match="which is an input as well: leave one of them out"):
        data.load_all(both, any_row)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_whatever_separates_its_columns(tmp_path, name, delimiter):
    table = delimiter.join(["age", "job"]) + "\r\n" + delimiter.join(["30", '"a, b; c"']) + "\r\n"
    content = table.encode("utf-8-sig")
    made = run(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    assert data.load_all(made, any_row)["train"].rows == [{"age": "30", "job": "a, b; c"}]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"a,b\n1,2\n3\n", "t.csv", "t.csv:3: the row has not the 2 columns of the first line"),
        (b"a,b\n1,2,3\n", "t.csv", "t.csv:2: the row has not the 2 columns"),
        (b"a,b\n", "t.csv", "t.csv has no rows"),
        (b"no gzip", "t.csv.gz", "t.csv.gz is not a whole gzip file"),
        (b"no gzip", "t.jsonl.gz", "t.jsonl.gz is not a whole gzip file"),
        (gzip.compress(b"a\n1\n", mtime=0)[:-9], "t.csv.gz", "t.csv.gz is not a whole gzip file"),
        (b"a\n\xff\n", "t.csv", "t.csv is not UTF-8"),
        (b"a\n" + b"x" * 200_000, "t.csv", "t.csv:2 is no CSV: field larger than field limit"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, content, name, message):
    with pytest.raises(DataInvalidError) as error:
        data.load_all(run(tmp_path, content, name), any_row)
    assert message in error.value.message


@pytest.mark.parametrize(("value", "wanted"), [(1, 1.0), ("2.5", 2.5), (" 3 ", 3.0), (-0.5, -0.5)])
def test_a_number_is_read_from_json_and_from_a_table(tmp_path, value, wanted):
    place = data.Place(source(tmp_path), 4)
    assert data.number({"x": value}, "x", place) == wanted


@pytest.mark.parametrize(
    "value", ["", "much", "nan", float("nan"), float("inf"), 10**400, True, None, [1]]
)
def test_what_is_no_number_is_refused_by_line_and_field(tmp_path, value):
    with pytest.raises(DataInvalidError, match=r"train.jsonl:4: field 'x' is .*, wanted a number"):
        data.number({"x": value}, "x", data.Place(source(tmp_path), 4))


def test_a_row_that_is_none_is_an_error_in_its_place(tmp_path):
    read = list(data.read(source(tmp_path / "t.jsonl"), io.BytesIO(b'{"a": 1}\n[\n{"a": 2}\n')))
    assert [place.number for place, _ in read] == [1, 2, 3]
    assert (read[0][1], read[2][1]) == ({"a": 1}, {"a": 2})
    assert isinstance(read[1][1], DataInvalidError)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "LONGEST_LINE", 2**20)
    with pytest.raises(DataInvalidError, match="a line of more than 1 MiB: write one object a"):
        load(tmp_path, b"[" + b"1," * 2**20 + b"1]")
