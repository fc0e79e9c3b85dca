"""Answer schemas: what is read from an answer, and what one sentence says of a bad one."""

import json
import math
from pathlib import Path

import pytest
import yaml
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.answers import AnswerCheck, faults
from policy_models.decision import Decision, Option
from policy_models.fields import Violation, at

EXAMPLES = Path(__file__).parents[2] / "examples"
SCORE = {"name": "score", "pattern": r"Score: (\d+)", "type": "Integer", "min": 0, "max": 100}
ACTIONS = {
    "name": "actions",
    "pointer": "/actions",
    "type": "Array",
    "items": [
        {"name": "type", "pointer": "/type", "type": "String"},
        {"name": "sure", "pointer": "/confidence", "type": "Number", "min": 0, "max": 1},
    ],
}


def check(*fields, **more):
    return AnswerCheck(AnswerSchema.model_validate({"fields": fields, **more}))


def field(**changes):
    return {"name": "x", "type": "String", **changes}


@pytest.mark.parametrize(
    ("declared", "answer", "value"),
    [
        (SCORE, "Score: 70. Score: 99.", 70),
        (field(pattern="is (.*)"), "it is fine", "fine"),
        (field(pattern="(a|b)", type="String"), "cab", "a"),
        (field(pattern=r"([-+.\de]+)", type="Number"), "at -1.5e2", -150.0),
        (field(pattern="(true|False)", type="Boolean"), "False", False),
        (field(pointer="", type="Object"), '{"a": null}', {"a": None}),
        (field(pointer="/a/1/b~1c~0d", type="Number"), '{"a": [0, {"b/c~d": 2}]}', 2),
        (field(pointer="/", type="Boolean"), '{"": true}', True),
        (field(pointer="/a", type="Integer"), '{"a": 3.0}', 3),
        (field(pointer="/a", type="Array"), '{"a": [1, "b"]}', [1, "b"]),
    ],
)
def test_a_field_is_read_as_its_type(declared, answer, value):
    (found,) = check(declared).read(answer).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("declared", "answer", "message"),
    [
        (SCORE, "no score, secret", "the answer has no score: its pattern is not found"),
        (field(pattern="a|(b)"), "a", "the answer has no x: its pattern is not found"),
        (SCORE, "Score: 101", "the answer's score is above 100"),
        ({**SCORE, "min": 10}, "Score: 9", "the answer's score is below 10"),
        ({**SCORE, "pattern": "is (.*)"}, "is 7 or so", "the answer's score is not a whole number"),
        ({**SCORE, "pattern": "is (.*)"}, "is " + "9" * 5000, "the answer's score is not a whole"),
        (field(pattern="(.*)", type="Number"), "1e999", "the answer's x is not a number"),
        (field(pattern="(.*)", type="Number"), "nan", "the answer's x is not a number"),
        (field(pattern="(.*)", type="Boolean"), "yes", "the answer's x is not true or false"),
        (field(pointer="/a"), "secret", "the answer is not JSON, into which its fields point"),
        (field(pointer="/a"), '{"a": NaN}', "the answer is not JSON, into which"),
        (field(pointer="/a"), "[" * 100_000, "the answer is not JSON, into which"),
        (field(pointer="/a"), '{"b": 1}', "the answer has no x: there is no /a"),
        (field(pointer="/01"), '["a", "b"]', "the answer has no x: there is no /01"),
        (field(pointer="/2"), '["a", "b"]', "the answer has no x: there is no /2"),
        (field(pointer="/a"), '{"a": 1}', "the answer's x is not a text"),
        (field(pointer="/a", type="Number"), '{"a": true}', "the answer's x is not a number"),
        (field(pointer="/a", type="Number"), '{"a": 1e999}', "the answer's x is not a number"),
        (field(pointer="/a", type="Integer"), '{"a": 1.5}', "the answer's x is not a whole number"),
        (field(pointer="/a", type="Object"), '{"a": []}', "the answer's x is not an object"),
        (ACTIONS, '{"actions": {}}', "the answer's actions is not a list"),
        (
            ACTIONS,
            '{"actions": [{"type": "a", "confidence": 1}, {"type": "b"}]}',
            "the answer has no sure in actions[1]",
        ),
        (
            ACTIONS,
            '{"actions": [{"type": "a", "confidence": 1.5}]}',
            "the answer's actions[0].sure is above 1",
        ),
        (ACTIONS, '{"actions": ["a"]}', "the answer has no type in actions[0]"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_answer(declared, answer, message):
    found = check(declared).read(answer)
    assert isinstance(found, Violation)
    assert found.message.startswith(message)
    assert "secret" not in found.message
    assert len(found.message) < 100


@pytest.mark.parametrize(
    ("schema", "answer", "message"),
    [
        ({"minLength": 4}, "abc", "the answer has 3 characters, at least 4 are declared"),
        ({"maxLength": 2}, "abc", "the answer has 3 characters, at most 2 are declared"),
        ({"patterns": ["b", "d"]}, "abc", "the answer does not match the declared pattern 'd'"),
    ],
)
def test_patterns_and_lengths(schema, answer, message):
    assert check(**schema).read(answer) == Violation(message)


def decided(answer):
    return Decision((Option(answer, 0.5, 1.0, 0.5, tokens=3),))


@pytest.mark.parametrize(
    ("most", "said", "confidence"), [(100, "85", 0.85), (1, "0.85", 0.85), (100, "0", 0)]
)
def test_the_answer_says_how_sure_it_is(most, said, confidence):
    sure = {"name": "sure", "pattern": "sure (.*)", "type": "Number", "min": 0, "max": most}
    found = check(sure, confidence="sure").judged(decided(f"sure {said}"))
    assert math.isclose(found.ranking[0].confidence, confidence)
    assert (found.ranking[0].score, found.ranking[0].tokens) == (0.5, 3)
    assert found.fields == {"sure": float(said)}


def test_without_such_a_field_the_tokens_say_it():
    found = check(SCORE).judged(decided("Score: 7"))
    assert (found.ranking[0].confidence, found.fields) == (0.5, {"score": 7})
    plain = check().judged(decided("Score: 7"))
    assert plain == decided("Score: 7")


def test_each_entry_of_a_list_has_an_id_of_its_own():
    built = check(ACTIONS, SCORE | {"pointer": "/score", "pattern": None})
    said = [{"type": "a", "confidence": 0.5, "id": "0"}, {"type": "b", "confidence": 1, "id": "0"}]
    fields = built.read(json.dumps({"actions": said, "score": 3}))
    assert built.named(fields, "d-1") == {
        "actions": [
            {"id": "d-1.actions.0", "type": "a", "sure": 0.5},
            {"id": "d-1.actions.1", "type": "b", "sure": 1},
        ],
        "score": 3,
    }


def test_patterns_that_judge_nothing_are_told_by_place():
    schema = AnswerSchema.model_validate(
        {"patterns": ["a", "("], "fields": [SCORE, field(pattern="(a)(b)"), field(pattern="()(")]}
    )
    told = dict(faults(schema))
    assert list(told) == [
        "answerSchema.patterns[1]",
        "answerSchema.fields[1].pattern",
        "answerSchema.fields[2].pattern",
    ]
    assert told["answerSchema.fields[1].pattern"] == (
        "'(a)(b)' has 2 groups, wanted one: write others as (?:…)"
    )


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", {"a": 1, "": {"~1": 2}}), ("/a", 1), ("//~01", 2)],
)
def test_pointers_are_those_of_rfc_6901(pointer, value):
    assert at({"a": 1, "": {"~1": 2}}, pointer) == value


def schema_of(path):
    spec = yaml.safe_load((EXAMPLES / path).read_text())["spec"]
    return AnswerSchema.model_validate(spec["answerSchema"])


@pytest.mark.parametrize("training", ["training-sft", "training-grpo"])
def test_review_forge_says_its_score_and_its_four_dimensions(training):
    read = AnswerCheck(schema_of(f"review-forge/training/{training}.yaml")).read
    plain = (
        "Score: 60. Clarity: fair, partly vague. Completeness: weak, no detail. Actionability: "
        "strong, has a fix. Constructiveness: fair, neutral."
    )
    terse = (
        "Score: 60 | Clarity fair | Completeness weak | Actionability strong | "
        "Constructiveness fair"
    )
    assert (
        read(plain)
        == read(terse)
        == {
            "score": 60,
            "clarity": "fair",
            "completeness": "weak",
            "actionability": "strong",
            "constructiveness": "fair",
        }
    )
    assert isinstance(read(plain.replace("60", "101")), Violation)


@pytest.mark.parametrize("training", ["training-sft", "training-dpo"])
def test_flowlens_says_its_actions(training):
    built = AnswerCheck(schema_of(f"flowlens/laptop/{training}.yaml"))
    answer = {
        "actions": [
            {
                "auto_approved": True,
                "confidence": 0.95,
                "id": "0",
                "reasoning": "can be taken back",
                "type": "scale_out",
            }
        ]
    }
    found = built.judged(decided(json.dumps(answer)))
    assert found.ranking[0].confidence == 0.95
    (action,) = built.named(found.fields, "d-1")["actions"]
    assert action == {**answer["actions"][0], "id": "d-1.actions.0"}
    bad = json.dumps(answer).replace("0.95", "0.955555e1")
    assert isinstance(built.judged(decided(bad)), Violation)


UNSAID = {"patterns": [r"Score: \d+"], "forbidden": ["(?i)password", "<script"]}


@pytest.mark.parametrize(
    ("answer", "unsafe", "said"),
    [
        ("no score", False, "the answer does not match the declared pattern"),
        ("Score: 3, the PASSWORD is x", True, "the pattern '(?i)password' forbids"),
        ("<script>, no score", True, "the pattern '<script' forbids"),
    ],
)
def test_what_is_forbidden_is_no_valid_answer_and_unsafe(answer, unsafe, said):
    found = check(**UNSAID).read(answer)
    assert isinstance(found, Violation)
    assert found.unsafe is unsafe
    assert said in found.message
    assert "is x" not in found.message


def test_only_what_may_be_forbidden_is_withheld():
    assert check(**UNSAID).read("Score: 3") == {}
    assert check(**UNSAID).withholds
    assert not check().withholds
