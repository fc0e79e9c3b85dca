"""Patterns find what Python's own engine finds, and are not searched for without an end."""

import re
import threading
import warnings

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from policy_models.patterns import Budget, Pattern, TooSlowError

SLOW = r"^(a|aa)+$"
TEXT = "a" * 60 + "b"


def both(source: str, text: str) -> tuple[object, object]:
    """Return what Python's engine finds, and what ours does: where, and its first group."""
    found = []
    for match in (re.search(source, text), Pattern(source).search(text, Budget(30))):
        group = match[1] if match is not None and match.re.groups else None
        found.append(None if match is None else (match.span(), group))
    return found[0], found[1]


ATOMS = r"""a b 1 . \d \w \s \b \S ^ $ { } {e} {i<=1} {,} [ab] [^a] [[a] []a] [^]a] [\]a] [\[:a:]
[{e}] \{ \\ (?: ( ) | * + ? *? {2} {1,} {,2} (?=a) (?<!a) (?i) \N{DIGIT&ONE} (?#[) && -- || ~~
[a--b] [a||b] [[:alpha:]]"""
atoms = st.sampled_from([atom.replace("&O", " O") for atom in ATOMS.split()] + [" "])
texts = st.text(alphabet="ab1 {}e[]:lph\\\n&-|~i<=", max_size=12)


@given(st.lists(atoms, max_size=8).map("".join), texts)
@example("a{e}", "b")
@example("(?:ab){i<=1}", "acb")
@example("[[:alpha:]]", "x")
@example("(?x)a # [{\n[bc]", "ac")
def test_a_pattern_finds_what_pythons_engine_finds(source, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a set might mean one day
        try:
            re.compile(source)
        except re.error:
            assume(False)
        theirs, ours = both(source, text)
    assert ours == theirs


@pytest.mark.parametrize(
    "source",
    [
        r"Score: ([0-9]{1,3})/100",
        r"(?is)^\s*\{.*\"score\"\s*:\s*([-+]?\d+(?:\.\d+)?)",
        r"Recommendation: (.+)\n?\Z",
        r"(?m)^- (?!password)(\w+)",
        r"(?P<word>\w+) (?P=word)",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "Score: 70/100\nRecommendation: none, é.\n",
        '{"score": -1.5}',
        "- über\n- password\nthe the",
        "",
    ],
)
def test_patterns_of_answers_find_what_they_did(source, text):
    theirs, ours = both(source, text)
    assert ours == theirs


@pytest.mark.parametrize("source", ["(", r"\p{L}", "(?R)", "a{2,1}", "(?x:a b)", r"\m", "(?<=a+)b"])
def test_what_is_no_pattern_of_pythons_is_refused(source):
    with pytest.raises(re.error):
        Pattern(source)


def test_what_has_no_end_is_stopped_and_other_threads_go_on():
    seen, stopped = threading.Event(), []

    def search() -> None:
        with pytest.raises(TooSlowError) as caught:
            Pattern(SLOW).search(TEXT * 3, Budget(0.5))
        stopped.append(str(caught.value))

    thread = threading.Thread(target=search)
    thread.start()
    while thread.is_alive() and not stopped:
        seen.set()  # this thread runs while that one searches
        thread.join(0.01)
    assert seen.is_set()
    sentence = "was not judged within 1 s: write it without repetitions of repetitions"
    assert stopped == [f"the pattern {SLOW!r} {sentence}"]


def test_what_is_quick_is_found_when_the_time_is_up():
    assert Pattern("b").search(TEXT, Budget(-1)) is not None
