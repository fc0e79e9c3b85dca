"""What a template's places become, and JSON pointers."""

import pytest
from policy_models.pointers import MissingError, at, put
from policy_models.prompts import UnfilledError, filled, places

VALUES = {
    "action": "10 %",
    "confidence": 0.5,
    "ranking": [{"score": 1.5}],
    "request": {"state": {"tenure": 3, "a.b": ["x"], "with space": None}},
    "nothing": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Offer {action}.", "Offer 10 %."),
        ("{action}{action}", "10 %10 %"),
        ("{confidence} {ranking/0/score}", "0.5 1.5"),
        ("{request/state/tenure} months, {request/state/a.b}", '3 months, ["x"]'),
        (
            'Answer as {"score": 1}, or {}, or { action }',
            'Answer as {"score": 1}, or {}, or { action }',
        ),
        ("{{action}}", "{10 %}"),
        ("no place", "no place"),
    ],
)
def test_places_are_filled_and_other_braces_are_text(template, text):
    assert filled(template, VALUES) == text


def test_what_was_filled_in_is_not_filled_again():
    assert filled("{a} {b}", {"a": "{b}", "b": "{a}"}) == "{b} {a}"


@pytest.mark.parametrize("place", ["answer", "nothing", "ranking/1/score", "action/0", "ranking/x"])
def test_a_place_for_what_is_not_there_is_told(place):
    with pytest.raises(UnfilledError) as caught:
        filled(f"Say {{{place}}}", VALUES)
    assert str(caught.value) == place


def test_what_is_nested_too_deeply_is_told():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(UnfilledError) as caught:
        filled("{state}", {"state": deep})
    assert str(caught.value) == "state that is nested less deeply"


def test_places_are_named():
    assert places('{action} {"a": 1} {request/state/a.b}') == ("action", "request/state/a.b")


def test_a_pointer_leads_and_puts():
    made = {}
    put(made, "/a/b~1c/0", 1)
    put(made, "/a/d", [{"e": 2}])
    assert made == {"a": {"b/c": {"0": 1}, "d": [{"e": 2}]}}
    assert at(made, "/a/b~1c/0") == 1
    assert at(made, "/a/d/0/e") == 2
    assert at(made, "") == made
    with pytest.raises(MissingError):
        put(made, "/a/d/f", 3)
    for nowhere in ("/x", "/a/d/1", "/a/d/01", "/a/d/0/e/f"):
        with pytest.raises(MissingError):
            at(made, nowhere)
