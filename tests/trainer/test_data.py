"""Data is checked row by row, and an error names the file, the row and the field."""

import hashlib
import json

import pytest
from policy_api.run import RunInput
from policy_trainer import data
from policy_trainer.errors import DataInvalidError

GOOD = '{"prompt": "p", "completion": "c", "quality": "good"}'


def source(path, **fields):
    return RunInput(name="train", uri="pvc://claim/train.jsonl", path=str(path), **fields)


def load(tmp_path, content, **fields):
    file = tmp_path / "train.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.load(source(file, **fields), ("prompt", "completion"))


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
        data.load(source(tmp_path / "none"), ("prompt",))
    assert error.value.field == "data[train]"


def test_a_large_file_is_read_whole(tmp_path):
    rows = "\n".join(json.dumps({"prompt": f"p{n}", "completion": "c"}) for n in range(5000))
    assert load(tmp_path, rows).rows[-1]["prompt"] == "p4999"
