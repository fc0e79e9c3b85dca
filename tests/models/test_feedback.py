"""What people say of a plan becomes a label."""

import pytest
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference
from policy_models.feedback import label

BLOCK = PlanPreference()


def found(said, tags=()):
    return label(said, tags, BLOCK.positive_keywords, BLOCK.negative_keywords)


@pytest.mark.parametrize("word", BLOCK.positive_keywords)
def test_every_positive_keyword_is_positive_in_any_case_and_as_a_tag(word):
    assert found(f"that is {word}, really") is True
    assert found(word.upper()) is True
    assert found("", [word]) is True


@pytest.mark.parametrize("word", BLOCK.negative_keywords)
def test_every_negative_keyword_is_negative_in_any_case_and_as_a_tag(word):
    assert found(f"that is {word}, really") is False
    assert found(word.upper()) is False
    assert found("", [word]) is False


@pytest.mark.parametrize(
    ("said", "tags", "wanted"),
    [
        ("Great plan, worked perfectly", ["pos"], True),
        ("Too many steps, should be simpler", ["neg"], False),
        ("not good", [], False),
        ("Not  helpful at all", [], False),
        ("this isn't correct", [], False),
        ("good, not bad", [], None),  # `bad` is a word of its own
        ("good and great but wrong", [], True),
        ("good but wrong", [], None),
        ("goodness, a badge", [], None),
        ("the position is negligible", [], None),
        ("+1", [], True),
        ("+10 points", [], None),
        ("x-1", [], None),
        ("-1", [], False),
        ("(good)", [], True),
        ("", [], None),
        ("fine", ["other"], None),
        ("wrong", ["good", "great"], True),
    ],
)
def test_words_are_whole_and_negation_turns_them(said, tags, wanted):
    assert found(said, tags) is wanted
