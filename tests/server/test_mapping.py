"""A user's own request becomes a call's, and what is said of the call is said of the request."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.v1alpha1.routes import Route
from policy_models.pointers import MissingError, at
from policy_server.http.mapping import (
    UnmappableError,
    answer_of,
    call_of,
    path_of,
    renamed,
)


def route(to: str = "/v1/decisions", **fields: Any) -> Route:
    return Route.model_validate({"path": "/own", "to": to, **fields})


def made(one: Route, body: dict[str, Any], query: str = "") -> dict[str, Any]:
    return call_of(one, body, parse_qs(query, keep_blank_values=True))


FEEDBACK = route(
    "/v1/feedback",
    request=[
        {"to": "/runId", "from": "/run_id"},
        {"to": "/text", "from": "/feedback"},
        {"to": "/tags", "from": "/tags"},
    ],
)
OUTCOME = route(
    "/v1/decisions/{id}/outcome",
    request=[{"to": "/id", "from": "/decision"}, {"to": "/reward", "from": "/score"}],
)
RETAIN = route(
    request=[
        {"to": "/state", "from": "/customer"},
        {"to": "/context/reason", "from": "/reason"},
        {"to": "/topK", "query": "top", "type": "Integer"},
        {"to": "/explain", "query": "why", "type": "Boolean"},
    ],
    defaults={"topK": 2, "candidates": ["5 %", "10 %"]},
)


def test_feedback_is_taken_as_an_agent_sends_it():
    sent = {"run_id": "your-run-id", "feedback": "Good plan", "tags": "pos"}
    wanted = {"runId": "your-run-id", "text": "Good plan", "tags": "pos"}
    assert made(FEEDBACK, sent) == wanted
    assert path_of(FEEDBACK, wanted) == "/v1/feedback"
    assert made(FEEDBACK, {"run_id": "r"}) == {"runId": "r"}, "what was not sent is left out"


def test_an_outcome_has_its_decisions_id_in_the_path():
    call = made(OUTCOME, {"decision": "d-1", "score": 2})
    assert path_of(OUTCOME, call) == "/v1/decisions/d-1/outcome"
    assert call == {"reward": 2}


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({}, "decision is missing: set it to the decision's id"),
        ({"decision": None}, "decision is missing: set it to the decision's id"),
        ({"decision": 5}, "decision must be the decision's id, a string"),
        ({"decision": "a/b"}, "decision must be the decision's id, a string"),
        ({"decision": ""}, "decision must be the decision's id, a string"),
    ],
)
def test_an_outcome_of_no_decision_is_refused(decision: dict[str, Any], said: str):
    with pytest.raises(UnmappableError) as caught:
        path_of(OUTCOME, made(OUTCOME, {**decision, "score": 1}))
    assert str(caught.value) == said


def test_body_query_and_defaults_make_one_call():
    customer = {"tenure": 3, "job": None}
    body = {"customer": customer, "reason": "price"}
    wanted = {"state": customer, "context": {"reason": "price"}, "candidates": ["5 %", "10 %"]}
    assert made(RETAIN, body) == {**wanted, "topK": 2}
    assert made(RETAIN, body, "top=1&why=true") == {**wanted, "topK": 1, "explain": True}
    assert made(RETAIN, body, "utm=x")["topK"] == 2, "a proxy may add parameters"
    assert made(RETAIN, body) == {**wanted, "topK": 2}, "defaults stay as they were"


def test_the_whole_body_may_be_one_field():
    whole = route(request=[{"to": "/state", "from": ""}, {"to": "/runId", "from": "/session"}])
    sent = {"tenure": 3, "session": "s"}
    call = made(whole, sent)
    assert call == {"state": sent, "runId": "s"}
    inside = route(request=[{"to": "/state", "from": ""}, {"to": "/state/late", "from": "/a"}])
    sent = {"a": 1}
    assert made(inside, sent) == {"state": {"a": 1, "late": 1}}
    assert sent == {"a": 1}, "what was sent is not changed"


def test_without_request_the_body_is_the_calls():
    plain = route(defaults={"topK": 1})
    assert made(plain, {"state": {}, "strange": 1}) == {"state": {}, "strange": 1, "topK": 1}
    assert made(plain, {"prompt": "x", "topK": 5}) == {"prompt": "x", "topK": 5}


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        ({"customer": {}, "resaon": "x"}, "", "resaon is not a known field: remove it"),
        ({"state": {}}, "", "state is not a known field: remove it"),
        ({"reason": "price"}, "", None),  # the defaults have candidates
        ({"customer": {}}, "top=x", "the query's top must be a whole number"),
        ({"customer": {}}, "top=1_0", "the query's top must be a whole number"),
        ({"customer": {}}, "top=", "the query's top must be a whole number"),
        ({"customer": {}}, "why=yes", "the query's why must be true or false"),
        ({"customer": {}}, "top=1&top=2", "the query's top is there 2 times: send it once"),
    ],
)
def test_what_does_not_fit_is_told_by_the_users_names(body: Any, query: str, said: str | None):
    if said is None:
        assert made(RETAIN, body, query)
        return
    with pytest.raises(UnmappableError) as caught:
        made(RETAIN, body, query)
    assert str(caught.value) == said


def test_a_field_inside_of_what_is_no_object_is_refused():
    deep = route(request=[{"to": "/state", "from": "/who"}, {"to": "/state/plan", "from": "/plan"}])
    with pytest.raises(UnmappableError) as caught:
        made(deep, {"who": "me", "plan": "a"})
    assert str(caught.value) == "who must be an object"
    inner = route(request=[{"to": "/state/tenure", "from": "/customer/months"}])
    with pytest.raises(UnmappableError) as caught:
        made(inner, {"customer": {"months": 1, "age": 3}})
    assert str(caught.value) == "customer.age is not a known field: remove it"


def test_what_is_asked_is_missed_by_the_users_name():
    one = route(request=[{"to": "/prompt", "from": "/question"}, {"to": "/runId", "from": "/run"}])
    with pytest.raises(UnmappableError) as caught:
        made(one, {"run": "r"})
    assert str(caught.value) == "question is missing: set it"
    two = route(request=[{"to": "/prompt", "from": "/q"}, {"to": "/state", "from": "/facts"}])
    with pytest.raises(UnmappableError) as caught:
        made(two, {})
    assert str(caught.value) == "set one of q, facts"


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("state.tenure must be a number or null", "customer.tenure must be a number or null"),
        ("state must be an object", "customer must be an object"),
        ("context.reason is odd; topK too", "reason is odd; the query's top too"),
        ("context must be an object", "context must be an object"),
        ("the statement of estate.state", "the statement of estate.state"),
        ("candidates[0] must be a string", "candidates[0] must be a string"),
    ],
)
def test_sentences_name_the_users_fields(sentence: str, said: str):
    assert renamed(RETAIN, sentence) == said


def test_sentences_about_the_whole_body_name_what_is_inside():
    whole = route(request=[{"to": "/state", "from": ""}])
    assert renamed(whole, "state.tenure is missing: set it") == "tenure is missing: set it"
    assert renamed(whole, "state must be an object") == "the body must be an object"
    assert renamed(route(), "state is missing") == "state is missing"


def _there(document: Any, pointer: str) -> Any:
    try:
        return at(document, pointer)
    except MissingError:
        return MissingError


NAMES = st.sampled_from(["a", "b", "c"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
POINTERS = st.lists(NAMES | st.just("0"), min_size=1, max_size=3).map(lambda p: "/" + "/".join(p))
FIELDS = st.dictionaries(POINTERS, POINTERS | st.just(""), min_size=1, max_size=4)


@given(FIELDS, st.dictionaries(NAMES, JSON, max_size=3))
def test_any_request_becomes_a_call_or_is_refused_and_stays_as_it_was(
    fields: dict[str, str], body: dict[str, Any]
):
    one = route("/v1/feedback", request=[{"to": t, "from": f} for t, f in fields.items()])
    before = json.dumps(body)
    try:
        call = made(one, body)
    except UnmappableError:
        call = {}
        fields = {}
    assert json.dumps(body) == before
    if not any(a != b and b.startswith(a) for a in fields for b in fields):
        for to, source in fields.items():
            assert _there(call, to) == _there(body, source)


ANSWER = {"action": "10 %", "ranking": [{"confidence": 0.7}], "decisionId": "d"}


def test_an_answer_is_picked_and_renamed():
    picked = route(
        response=[
            {"to": "/offer", "from": "/action"},
            {"to": "/sure/how", "from": "/ranking/0/confidence"},
            {"to": "/message", "from": "/then/answer"},
        ]
    )
    assert answer_of(picked, ANSWER) == {"offer": "10 %", "sure": {"how": 0.7}}
    both = {**ANSWER, "then": {"answer": "Stay!"}}
    assert answer_of(picked, both)["message"] == "Stay!"
    failed = {**ANSWER, "then": {"error": {"code": "Timeout", "message": "late"}}}
    assert answer_of(picked, failed) == {
        "offer": "10 %",
        "sure": {"how": 0.7},
        "then": {"error": {"code": "Timeout", "message": "late"}},
    }
    assert answer_of(route(), both) == both
