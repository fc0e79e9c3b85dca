"""A user's own paths, by the real process: one code path with /v1, and the user's names."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from server.scripted import GOOD, lines, server, until
from server.test_kinds import env_of
from server.told import Told, counts, text_server

STATE = {"task": "page", "languages": ["py"], "success_rate": 0.4}
CHOOSE = {
    "path": "/choose",
    "to": "/v1/decisions",
    "request": [
        {"to": "/state/task", "from": "/job/kind"},
        {"to": "/state/languages", "from": "/job/languages"},
        {"to": "/state/success_rate", "from": "/job/rate"},
        {"to": "/candidates", "from": "/only"},
        {"to": "/topK", "query": "top", "type": "Integer"},
    ],
    "defaults": {"topK": 1},
    "response": [
        {"to": "/agent", "from": "/action"},
        {"to": "/ranking", "from": "/ranking"},
        {"to": "/id", "from": "/decisionId"},
    ],
}
FEEDBACK = {
    "path": "/feedback",
    "to": "/v1/feedback",
    "request": [{"to": "/runId", "from": "/run_id"}, {"to": "/text", "from": "/feedback"}],
}
OUTCOME = {
    "path": "/reward",
    "to": "/v1/decisions/{id}/outcome",
    "request": [{"to": "/id", "from": "/decision"}, {"to": "/reward", "from": "/reward"}],
}
ASK = {"path": "/ask", "to": "/v1/decisions", "request": [{"to": "/prompt", "from": "/question"}]}
JOB = {"kind": "page", "languages": ["py"], "rate": 0.4}


@pytest.fixture
async def agents(tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    """A policy of actions with these paths."""
    told = Told(tmp_path)
    told.write(routes=[CHOOSE, FEEDBACK, OUTCOME])
    env = {**env_of("QNetwork", tmp_path), "POLICY_SERVING_PATH": str(told.path)}
    async with (
        server(env, module="policy_server") as (_, url, _log),
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield client


async def test_a_path_of_ones_own_is_a_decision(agents):
    usual = (await agents.post("/v1/decisions", json={"state": STATE, "topK": 2})).json()
    own = await agents.post("/choose?top=2", json={"job": JOB})
    assert own.status_code == 200
    assert own.headers["content-type"] == "application/json"
    body = own.json()
    assert set(body) == {"agent", "ranking", "id"}
    assert (body["agent"], body["ranking"]) == (usual["action"], usual["ranking"])
    assert len((await agents.post("/choose", json={"job": JOB})).json()["ranking"]) == 1
    one = await agents.post("/choose", json={"job": JOB, "only": ["frontend"]})
    assert one.json()["agent"] == "frontend"
    decisions = await counts(agents, "policyops_decisions_total", role="direct")
    assert decisions == {"": 4}
    stable = await agents.post("/choose", json={"job": JOB}, headers={"x-policyops-role": "stable"})
    assert stable.status_code == 200
    assert await counts(agents, "policyops_decisions_total", role="stable") == {"": 1}


@pytest.mark.parametrize(
    ("path", "sent", "status", "message"),
    [
        ("/choose", {"job": {**JOB, "rate": "x"}}, 422, "job.rate must be a number or null"),
        (
            "/choose",
            {"job": {"kind": "page", "rate": 1}},
            422,
            "job.languages is missing: set it, to null where it is not known",
        ),
        ("/choose", {"job": JOB, "only": "x"}, 422, "only must be a list"),
        ("/choose", {"job": JOB, "onyl": []}, 422, "onyl is not a known field: remove it"),
        ("/choose?top=0", {"job": JOB}, 422, "the query's top must be at least 1"),
        ("/choose?top=x", {"job": JOB}, 422, "the query's top must be a whole number"),
        ("/choose", {}, 422, "set one of job.kind, job.languages, job.rate, only"),
        ("/choose", [], 422, "the body must be an object"),
        ("/feedback", {"feedbak": "x"}, 422, "feedbak is not a known field: remove it"),
        ("/reward", {"reward": 1}, 422, "decision is missing: set it to the decision's id"),
        ("/other", {}, 404, "there is no /other here: see /docs"),
        ("/choose/", {"job": JOB}, 404, "there is no /choose/ here: see /docs"),
    ],
)
async def test_what_v1_says_is_said_of_the_users_fields(agents, path, sent, status, message):
    response = await agents.post(path, json=sent)
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)
    assert response.json()["policy"] == "agents"
    assert await counts(agents, "policyops_decisions_total", role="direct") == {"": 0}


async def test_bodies_are_judged_as_those_of_v1(agents):
    for content, kind in ((b"{", "application/json"), (b'{"job": {}}', "text/plain")):
        headers = {"content-type": kind}
        own = await agents.post("/choose", content=content, headers=headers)
        usual = await agents.post("/v1/decisions", content=content, headers=headers)
        assert own.status_code == usual.status_code in {400, 415}
        assert own.json() == usual.json()
    large = await agents.post("/choose", json={"job": {"kind": "x" * (1 << 20)}})
    assert large.status_code == 413
    read = await agents.get("/choose")
    assert read.status_code == 405
    assert read.json()["error"]["message"] == "/choose does not take GET: see /docs"
    headers = {"content-type": "application/json"}
    for depth in (300, 400, 500, 700, 900, 990, 100_000):
        inside = b'{"kind":' * depth + b"1" + b"}" * depth
        deep = await agents.post("/choose", content=b'{"job":' + inside + b"}", headers=headers)
        assert 400 <= deep.status_code < 500, depth


async def test_a_caller_that_goes_away_amid_its_body_is_no_fault(tmp_path):
    Told(tmp_path).write(routes=[ASK])
    async with server(text_server(tmp_path)) as (_, url, log):
        host, port = url.removeprefix("http://").split(":")
        head = "POST /ask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f'{head}content-length: 100\r\n\r\n{{"question"'.encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/ask", json={"question": "Hello"})).status_code == 200
            await until(lambda: len(lines(log, "decision")) == 1)
    assert "Traceback" not in log.read_text()
    assert "exception" not in log.read_text()


async def test_routes_change_while_it_serves(tmp_path):
    told = Told(tmp_path)
    env = text_server(tmp_path)
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/ask", json={"question": "Hello"})).status_code == 404
        told.write(routes=[ASK])
        await until(lambda: len(lines(log, "serving")) == 1)
        body = (await client.post("/ask", json={"question": "Hello"})).json()
        assert body["answer"] == GOOD
        assert "runId" not in body
        about = (await client.get("/v1/policy")).json()
        assert about["serving"]["routes"] == [ASK]
        failed = await client.post("/ask", json={"question": "bad"})
        assert (failed.status_code, failed.json()["error"]["code"]) == (
            500,
            "AnswerSchemaViolation",
        )
        streamed = {"accept": "text/event-stream"}
        whole = await client.post("/ask", json={"question": "Hello"}, headers=streamed)
        assert whole.json()["answer"] == GOOD
        told.write(routes=[{**ASK, "path": "/v1/decisions"}, {**ASK, "to": "/v9"}, ASK])
        await until(lambda: "routes[1] is unknown to this server" in log.read_text())
        assert (await client.post("/ask", json={"question": "Hello"})).status_code == 200
        usual = await client.post("/v1/decisions", json={"prompt": "Hello"})
        assert usual.json()["answer"] == GOOD


async def test_a_path_of_ones_own_asks_for_a_token_too(tmp_path):
    Told(tmp_path).write(routes=[ASK])
    tokens = tmp_path / "tokens"
    tokens.write_text(f"shop {'a' * 32}\n")
    env = text_server(tmp_path, AUTH_TOKEN_FILE=str(tokens))
    async with server(env) as (_, url, _log), httpx.AsyncClient(base_url=url) as client:
        unknown = await client.post("/ask", content=b"no JSON")
        assert unknown.status_code == 401
        assert unknown.headers["www-authenticate"] == "Bearer"
        assert await counts(client, "policyops_unauthorized_total", role="direct") == {"": 1}
        known = {"Authorization": f"Bearer {'a' * 32}"}
        answered = await client.post("/ask", json={"question": "Hello"}, headers=known)
        assert answered.status_code == 200
        assert (await client.post("/other", json={})).status_code == 404


async def test_run_and_context_are_taken_by_every_call(agents):
    asked = {"state": STATE, "runId": "r-1", "context": {"from": "a test"}}
    assert (await agents.post("/v1/decisions", json=asked)).status_code == 200
    long = await agents.post("/v1/decisions", json={**asked, "runId": "r" * 129})
    assert long.status_code in {413, 422}
    wrong = await agents.post("/v1/decisions", json={**asked, "context": "x"})
    assert wrong.json()["error"]["message"] == "context must be an object"
