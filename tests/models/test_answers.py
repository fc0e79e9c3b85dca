"""What a valid answer is, and what is never said."""

import pytest
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.answers import AnswerCheck

CHECK = AnswerCheck(AnswerSchema(patterns=[r"Score: \d+"], forbidden=["(?i)password", "<script"]))


@pytest.mark.parametrize(
    ("answer", "unsafe", "said"),
    [
        ("Score: 3", False, None),
        ("no score", False, "the answer does not match the declared pattern"),
        ("Score: 3, the PASSWORD is x", True, "the pattern '(?i)password' forbids"),
        ("<script>, no score", True, "the pattern '<script' forbids"),
    ],
)
def test_what_is_forbidden_is_no_valid_answer_and_a_safety_violation(answer, unsafe, said):
    assert (CHECK.safety_violation(answer) is not None) is unsafe
    found = CHECK.violation(answer)
    assert found is None if said is None else said in str(found)
    assert "is x" not in str(found)


def test_without_patterns_all_is_allowed():
    assert AnswerCheck(AnswerSchema()).safety_violation("password") is None
