"""Answers as server-sent events: over a real socket, by an engine whose steps the test gives."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from policy_api import keys
from policy_server.http.app import State
from server.live import Event, ask, events, listening, next_event, series, serving, tell
from server.scripted import GOOD, SCHEMA, until
from server.typist import Typist

FIXED = "Score: 50, by nobody."
RULE = {"strategy": "Rule", "rule": {"answer": FIXED}}
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def engine() -> Typist:
    return Typist()


@pytest.fixture
def schema() -> dict:
    return SCHEMA


@pytest.fixture
async def state(tmp_path: Path, engine: Typist, schema: dict) -> AsyncIterator[State]:
    async with serving(tmp_path, engine, schema, queue_limit=2) as state:
        yield state
        engine.stepwise = False
        engine.steps.release(1000)


@pytest.fixture
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(state) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


def texts(found: list[Event]) -> list[str]:
    return [event.data["text"] for event in found if event.name == "token"]


async def test_the_pieces_add_up_to_the_answer_and_the_last_event_is_the_decision(client):
    response = await ask(client, "Score this")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    found = events(response.text)
    assert {event.name for event in found[:-1]} == {"token"}
    assert len(found) > 3
    last = found[-1]
    assert last.name == "decision"
    assert "".join(texts(found)) == last.data["answer"] == GOOD
    plain = (await client.post("/v1/decisions", json={"prompt": "Score this"})).json()
    changes = ("decisionId", "latencySeconds")
    assert {k: v for k, v in last.data.items() if k not in changes} == {
        k: v for k, v in plain.items() if k not in changes
    }


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.9", True),
        ("application/json", False),
        ("*/*", False),
        ("text/event-streams", False),
    ],
)
async def test_who_asks_for_events_gets_them(client, accept, streamed):
    response = await client.post("/v1/decisions", json={"prompt": "a"}, headers={"Accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream") is streamed


async def test_a_piece_is_sent_while_the_rest_is_written(client, engine):
    engine.stepwise = True
    engine.steps.release()  # a first piece, with which the status is known
    async with client.stream("POST", "/v1/decisions", json={"prompt": "a"}, headers=SSE) as stream:
        lines = stream.aiter_lines()
        first = await next_event(lines)
        assert GOOD.startswith(first.data["text"])
        assert len(engine.writing) == 1, "it is not whole yet"
        engine.steps.release(1000)
        rest = events("\n".join([line async for line in lines]))
    assert first.data["text"] + "".join(texts(rest)) == GOOD


async def test_text_that_breaks_the_schema_in_the_end_is_taken_back_by_an_error(client):
    response = await ask(client, "say nothing of any score here")
    found = events(response.text)
    assert response.status_code == 200, "it had begun"
    assert "".join(texts(found)) == "nothing of any score here"[: len("".join(texts(found)))]
    last = found[-1]
    assert (last.name, last.data["error"]["code"]) == ("error", "AnswerSchemaViolation")
    assert set(last.data) == {"error", "policy", "version", "decisionId"}
    assert [event.name for event in found].count("error") == 1
    assert await series(client, keys.METRIC_DECISION_ERRORS, reason="answer_schema") == 1


@pytest.mark.parametrize("schema", [{**SCHEMA, "forbidden": ["(?i)password"]}])
async def test_what_may_be_forbidden_is_held_back_until_it_is_judged(client, engine):
    said = "Score: 1. The password is swordfish."
    response = await ask(client, f"say {said}")
    assert response.status_code == 500, "nothing had begun"
    assert response.json()["error"]["code"] == "AnswerSchemaViolation"
    assert "swordfish" not in response.text
    assert await series(client, keys.METRIC_SAFETY_VIOLATIONS) == 1
    found = events((await ask(client, "fine")).text)
    assert [event.name for event in found] == ["token", "decision"], "it is judged whole"
    assert texts(found) == [GOOD]


@pytest.mark.parametrize("prompt", ["raise", "fail", "say no number, sorry"])
async def test_with_a_baseline_the_text_is_that_of_whoever_answers(client, state, prompt):
    tell(state, baseline=RULE)
    found = events((await ask(client, prompt)).text)
    assert texts(found) == [FIXED]
    last = found[-1]
    assert (last.name, last.data["answer"], last.data["source"]) == ("decision", FIXED, "baseline")
    found = events((await ask(client, "fine")).text)
    assert (texts(found), found[-1].data["source"]) == ([GOOD], "policy")


async def test_a_hybrid_that_is_unsure_says_what_the_baseline_says(client, state):
    tell(state, mode="Hybrid", minConfidence=0.9, baseline=RULE)
    found = events((await ask(client, "fine")).text)
    assert texts(found) == [FIXED]
    assert found[-1].data["answer"] == FIXED


async def test_an_advisor_gives_its_ranking_and_no_text(client, state):
    tell(state, mode="Advisor")
    (only,) = events((await ask(client, "fine")).text)
    assert only.name == "decision"
    assert "answer" not in only.data
    assert [option["answer"] for option in only.data["ranking"]] == [GOOD]


async def test_candidates_are_chosen_and_not_written(client, state):
    response = await ask(client, "fine", candidates=["a", "b"])
    assert response.status_code == 200
    (only,) = events(response.text)
    assert only.name == "decision", "candidates are chosen, not written"


async def test_too_late_before_the_first_piece_is_a_plain_504(client, state, engine):
    engine.stepwise = True
    tell(state, timeoutMilliseconds=20)
    response = await ask(client, "fine")
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "Timeout"
    engine.steps.release(1000)
    await until(lambda: not engine.writing)
    assert await series(client, keys.METRIC_DECISION_ERRORS, reason="timeout") == 1


async def test_too_late_after_the_first_piece_is_an_error_event(client, state, engine):
    engine.stepwise = True
    engine.steps.release()
    tell(state, timeoutMilliseconds=500)
    async with client.stream("POST", "/v1/decisions", json={"prompt": "a"}, headers=SSE) as stream:
        lines = stream.aiter_lines()
        assert (await next_event(lines)).name == "token"
        last = await next_event(lines)
    assert (last.name, last.data["error"]["code"]) == ("error", "Timeout")
    engine.steps.release(2)
    await until(lambda: not engine.writing)


async def test_a_caller_that_goes_away_frees_the_engine(client, engine):
    engine.stepwise = True
    engine.steps.release()
    long = f"Score: 1 {'a' * 5000}"
    body = {"prompt": f"say {long}"}
    async with client.stream("POST", "/v1/decisions", json=body, headers=SSE) as stream:
        await next_event(stream.aiter_lines())
        assert len(engine.writing) == 1
    while engine.writing:  # it is seen between two steps
        engine.steps.release()
        await asyncio.sleep(0.001)
    assert [one.text for one in engine.left] == [long], "it was left, and is not whole"
    assert await series(client, keys.METRIC_DECISIONS) == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": ""}, 422, "InvalidRequest"),
        ({"prompt": "a", "temperature": 1}, 422, "InvalidRequest"),
        ({"prompt": "refuse"}, 413, "PromptTooLong"),
        ({"prompt": "raise"}, 500, "EngineFailed"),
        ({"prompt": "x" * (1 << 20)}, 413, "BodyTooLong"),
    ],
)
async def test_what_does_not_begin_is_a_plain_error(client, body, status, code):
    response = await client.post("/v1/decisions", json=body, headers=SSE)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"


async def test_a_model_that_fails_midway_says_so(client):
    found = events((await ask(client, "fail")).text)
    assert [event.name for event in found] == ["token", "error"]
    assert found[-1].data["error"]["code"] == "EngineFailed"


async def test_too_many_are_told_to_come_back(client, engine):
    engine.stepwise = True
    tasks = [asyncio.create_task(ask(client, "fine"))]
    await until(lambda: len(engine.writing) == 1)
    tasks += [asyncio.create_task(ask(client, "fine")) for _ in range(3)]  # two may wait
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = [task.result() for task in done]
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"]["code"] == "Overloaded"
    engine.steps.release(1000)
    assert all(r.status_code == 200 for r in await asyncio.gather(*tasks) if r is not refused)


async def test_a_server_that_loads_is_a_plain_503(client, state):
    state.service = None
    response = await ask(client, "fine")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["error"]["code"] == "NotReady"
