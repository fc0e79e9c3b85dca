"""A second policy is asked with the first one's answer: two real servers, one run."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from policy_api import keys
from server.listener import Listener, listener
from server.scripted import lines, server, until
from server.test_kinds import env_of
from server.told import Told, counts, text_server

STATE = {"task": "page", "languages": ["py"], "success_rate": 0.4}
# What begins with a brace is said again by the scripted policy, and keeps its schema.
PROMPT = '{"Score: 1, for": "{action}, {request/state/task}, {request/context/why}"}'


def route(prompt: str = PROMPT, timeout: int = 20_000, **more: Any) -> dict[str, Any]:
    then = {"deployment": "writer", "prompt": prompt, "timeoutMilliseconds": timeout}
    request = [
        {"to": "/state", "from": "/state"},
        {"to": "/context/why", "from": "/why"},
        {"to": "/runId", "from": "/run"},
    ]
    return {"path": "/retain", "to": "/v1/decisions", "request": request, "then": then, **more}


def peer(url: str) -> list[dict[str, str]]:
    return [{"deployment": "writer", "url": url}]


@asynccontextmanager
async def first(folder: Path, **told: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """Serve a policy of actions that was told this."""
    file = Told(folder)
    file.write(**told)
    env = {**env_of("QNetwork", folder), "POLICY_SERVING_PATH": str(file.path)}
    async with (
        server(env, module="policy_server") as (_, url, log),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client, log


@pytest.fixture
def second() -> Iterator[Listener]:
    """The second policy's server, as far as its requests and answers go."""
    with listener() as found:
        yield found


async def ask(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    response = await client.post("/retain", json={"state": STATE, "why": "price", **more})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_two_servers_answer_one_request(tmp_path):
    writer = text_server(tmp_path / "writer")
    response = [{"to": "/agent", "from": "/action"}, {"to": "/message", "from": "/then/answer"}]
    async with server(writer) as (_, url, log):
        told = {"routes": [route()], "peers": peer(url)}
        async with first(tmp_path / "a", **told) as (client, _):
            body = await ask(client, run="r-7")
            assert body["then"]["answer"] == (
                f'{{"Score: 1, for": "{body["action"]}, page, price"}}'
            )
            assert body["then"]["policy"] == "review-forge"
            assert (body["policy"], body["runId"]) == ("agents", "r-7")
            assert body["then"]["decisionId"] != body["decisionId"]
            results = await counts(client, keys.METRIC_THEN, role="direct")
            assert results == {
                "answered": 1,
                "refused": 0,
                "timeout": 0,
                "unasked": 0,
                "unreachable": 0,
            }
        told["routes"] = [route(response=response)]
        async with first(tmp_path / "b", **told) as (client, _):
            body = await ask(client)
            assert set(body) == {"agent", "message"}
            assert body["agent"] in body["message"]
        assert len(lines(log, "decision")) == 2


async def test_both_decisions_have_one_run(tmp_path, second):
    second.answer = b'{"answer": "Stay!"}'
    async with first(tmp_path, routes=[route()], peers=peer(second.url)) as (client, _):
        named = await ask(client, run="r-7")
        unnamed = await ask(client)
        headers = {"Authorization": "Bearer of-the-caller"}
        sent = {"state": STATE, "why": "price"}
        await client.post("/retain", json=sent, headers=headers)
    assert [path for path, _, _ in second.asked] == ["/v1/decisions"] * 3
    (_, asked, given), (_, generated, _), (_, _, proof) = second.asked
    assert set(asked) == {"prompt", "runId"}
    assert asked["runId"] == named["runId"] == "r-7"
    assert generated["runId"] == unnamed["runId"]
    assert unnamed["runId"] not in {"r-7", unnamed["decisionId"]}
    assert named["then"] == {"answer": "Stay!"}
    assert "authorization" not in given
    assert proof["authorization"] == "Bearer of-the-caller"


async def test_what_no_text_can_hold_is_refused_before_anybody_is_asked(tmp_path, second):
    async with first(tmp_path, routes=[route()], peers=peer(second.url)) as (client, _):
        sent = json.dumps({"state": STATE, "why": "half of a \ud83d"})
        headers = {"content-type": "application/json"}
        response = await client.post("/retain", content=sent, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "NotJSON")
    assert second.asked == []


async def test_when_the_second_is_late_the_first_answers_and_says_so(tmp_path, second):
    second.hold.clear()
    picked = route(timeout=50, response=[{"to": "/agent", "from": "/action"}])
    async with first(tmp_path, routes=[picked], peers=peer(second.url)) as (client, _):
        body = await ask(client)
        assert body["agent"]
        assert body["then"]["error"] == {
            "code": "Timeout",
            "message": "writer: it has not answered within 50 ms",
        }
        assert (await counts(client, keys.METRIC_THEN, role="direct"))["timeout"] == 1
        errors = await counts(client, keys.METRIC_DECISION_ERRORS, role="direct")
        assert sum(errors.values()) == 0, "the first has not failed"


@pytest.mark.parametrize(
    ("status", "answer", "code", "message"),
    [
        (
            503,
            {"error": {"code": "Overloaded", "message": "too many"}, "policy": "w", "version": 1},
            "Overloaded",
            "writer: too many",
        ),
        (200, [1], "NoAnswer", "writer: it answered with status 200 and no JSON object"),
        (502, None, "NoAnswer", "writer: it answered with status 502 and no JSON object"),
        (500, {"error": "odd"}, "NoAnswer", "writer: status 500"),
    ],
)
async def test_what_the_second_refuses_is_said_in_its_words(
    tmp_path, second, status, answer, code, message
):
    second.status, second.answer = status, json.dumps(answer).encode()
    async with first(tmp_path, routes=[route()], peers=peer(second.url)) as (client, _):
        body = await ask(client)
        assert body["then"] == {"error": {"code": code, "message": message}}
        assert (await counts(client, keys.METRIC_THEN, role="direct"))["refused"] == 1


async def test_a_second_that_is_gone_or_unknown_costs_only_its_own_answer(tmp_path):
    with listener() as gone:
        url = gone.url
    dead = {"routes": [route()], "peers": peer(url)}
    async with first(tmp_path / "a", **dead) as (client, _):
        body = await ask(client)
        assert body["action"]
        assert body["then"]["error"] == {
            "code": "Unreachable",
            "message": "writer: its server can't be reached",
        }
    async with first(tmp_path / "b", routes=[route()]) as (client, _):
        assert (await ask(client))["then"]["error"] == {
            "code": "Unknown",
            "message": (
                "writer: the PolicyDeployment has no stable version, or nobody said where it is"
            ),
        }
        (problem,) = (await client.get("/v1/policy")).json()["servingProblems"]
        assert problem == (
            "/retain asks writer, and where that answers is not known: its PolicyDeployment "
            "serves none yet, or policyctl serve was not told by --peer; the first policy answers "
            "alone"
        )


async def test_a_place_for_what_is_not_there_leaves_the_second_unasked(tmp_path, second):
    told = {"routes": [route()], "peers": peer(second.url)}
    async with first(tmp_path, mode="Advisor", **told) as (client, _):
        body = await ask(client)
        assert body["ranking"]
        assert body["then"]["error"] == {
            "code": "NothingToAsk",
            "message": "writer: then.prompt can't be filled in: there is no action",
        }
        refused = await client.post("/retain", json={"state": {"task": "page"}})
        assert refused.status_code == 422
        assert (await counts(client, keys.METRIC_THEN, role="direct"))["unasked"] == 1
    assert second.asked == []


async def test_a_second_may_be_for_some_actions_alone(tmp_path, second):
    second.answer = b'{"answer": "Stay!"}'
    some = route(defaults={"candidates": ["backend", "frontend"]})
    some["then"]["actions"] = [{"name": "backend", "text": "a server"}, {"name": "infra"}]
    some["request"].append({"to": "/candidates", "from": "/only"})
    async with first(tmp_path, routes=[some], peers=peer(second.url)) as (client, _):
        asked = await ask(client, only=["backend"])
        assert (asked["action"], asked["then"]) == ("backend", {"answer": "Stay!"})
        alone = await ask(client, only=["frontend"])
        assert alone["action"] == "frontend"
        assert alone["runId"]
        assert "then" not in alone
        results = await counts(client, keys.METRIC_THEN, role="direct")
        assert sum(results.values()) == len(second.asked) == 1
    assert second.asked[0][1]["prompt"] == '{"Score: 1, for": "a server, page, price"}'


async def test_two_policies_that_name_each_other_are_no_loop(tmp_path):
    """What is asked second is /v1/decisions, which nothing follows."""
    there, back = Told(tmp_path / "a"), Told(tmp_path / "b")
    envs = [text_server(tmp_path / name) for name in "ab"]
    async with server(envs[0]) as (_, a, log_a), server(envs[1]) as (_, b, log_b):
        ask_then = {"path": "/ask", "to": "/v1/decisions"}
        for told, other in ((there, b), (back, a)):
            then = {"deployment": "writer", "prompt": '{"Score: 2": {confidence}}'}
            told.write(routes=[{**ask_then, "then": then}], peers=peer(other))
        await until(lambda: all(len(lines(log, "serving")) == 1 for log in (log_a, log_b)))
        async with httpx.AsyncClient(timeout=30) as client:
            body = (await client.post(f"{a}/ask", json={"prompt": "Hello"})).json()
        assert body["then"]["answer"] == '{"Score: 2": 0.75}'
        assert "then" not in body["then"]
        assert [len(lines(log, "decision")) for log in (log_a, log_b)] == [1, 1]
