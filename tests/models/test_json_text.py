"""JSON as callers write it: what is taken, and the sentence that refuses the rest."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_models.json_text import DEEPEST, NotJSONError, parse

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_what_json_can_say_is_read_as_it_is(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse(text.encode(), "it") == value
    assert parse(text, "it") == value


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_as_deep_as_it_may_be():
    assert parse(nested(DEEPEST), "it")
    assert parse(nested(DEEPEST).replace("[]", "[1]"), "it")
    assert parse(f"[{','.join(['{}'] * 1000)}]", "it"), "many are not deep"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is not JSON: Expecting value"),
        ("{", "it is not JSON: Expecting property name enclosed in double quotes"),
        ("{} {}", "it is not JSON: Extra data"),
        ('"\t"', "it is not JSON: Invalid control character at"),
        (b"\xff\xfe", "it is not JSON: send UTF-8 text"),
        ("[1]".encode("utf-16"), "it is not JSON: send UTF-8 text"),
        (b'"\xed\xa0\x80"', "it is not JSON: send UTF-8 text"),
        ("[NaN]", "it has NaN, which is not JSON: send null where a number is not known"),
        (
            "[-Infinity]",
            "it has -Infinity, which is not JSON: send null where a number is not known",
        ),
        ("1e400", "it has a number above 1.8e308: send a smaller one"),
        ("-1e400", "it has a number above 1.8e308: send a smaller one"),
        ("9" * 310, "it has a number above 1.8e308: send a smaller one"),
        ("1" + "0" * 5000, "it has a number above 1.8e308: send a smaller one"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "it has the field 'b' twice: send it once"),
        (
            r'{"\ud800": 1, "\ud800": 1}',
            r"it has the field '\\ud800' twice: send it once",
        ),
        (r'["\ud800"]', "it has half of a surrogate pair: send whole characters"),
        (r'{"a": {"\udc00": 1}}', "it has half of a surrogate pair: send whole characters"),
        (nested(DEEPEST + 1), "it is nested more than 64 levels deep: send flatter JSON"),
        (nested(100_000), "it is nested more than 64 levels deep: send flatter JSON"),
        ('{"a":' * 900 + "1" + "}" * 900, "it is nested more than 64 levels deep: send flatter"),
    ],
)
def test_the_rest_is_refused_with_one_sentence(text, sentence):
    with pytest.raises(NotJSONError) as caught:
        parse(text, "it")
    assert str(caught.value).startswith(sentence)


def test_what_is_just_in_bounds_is_taken():
    assert parse("1.7e308", "it") == 1.7e308
    assert parse("1" + "0" * 308, "it") == 10**308
    assert math.isclose(parse("0." + "1" * 5000, "it"), 1 / 9)
    assert parse(r'"\ud83d\ude00"', "it") == "😀"
