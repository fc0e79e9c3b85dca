"""The HTTP interface over a scripted engine: shapes, sentences, counters, log lines."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from policy_api import keys
from policy_api.contract.paths import FEEDBACK, PUBLISHED
from policy_server.artifact import open_artifact
from policy_server.decisions.service import DecisionService
from policy_server.engine.batching import Batcher
from policy_server.http.app import State, create_app
from policy_server.logs import JsonFormatter
from policy_server.metrics import Metrics
from server.artifacts import POLICY, VERSION, write_artifact
from server.scripted import GOOD, SCHEMA, Scripted


@pytest.fixture
def engine():
    return Scripted()


@pytest.fixture
def schema():
    """The policy's answer schema; a test that wants another is parametrized by it."""
    return SCHEMA


@pytest.fixture
async def state(tmp_path, engine, schema) -> AsyncIterator[State]:
    sha256 = write_artifact(tmp_path, answerSchema=schema)
    artifact = open_artifact(
        str(tmp_path), sha256=sha256, policy=POLICY, version=VERSION, download_folder=tmp_path
    )
    metrics = Metrics(POLICY, VERSION)
    batcher = Batcher(engine, queue_limit=2, batch_limit=1, wait_seconds=0)
    worker = asyncio.create_task(batcher.run())
    yield State(POLICY, VERSION, metrics, DecisionService(artifact, engine, batcher, metrics))
    engine.hold.set()
    worker.cancel()
    await asyncio.wait([worker])


@pytest.fixture
async def client(state) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


@pytest.fixture
def log():
    """What the process would print."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("policy_server")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)


async def sample(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return one sample of /metrics."""
    wanted = {"policy": POLICY, "version": str(VERSION), **labels}
    text = (await client.get("/metrics")).text
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] != name:
            continue
        inside = series.partition("{")[2].rstrip("}")
        found = dict(pair.split("=", 1) for pair in inside.split(","))
        if {key: text.strip('"') for key, text in found.items()} == wanted:
            return float(value)
    raise AssertionError(f"{name} {wanted} is not in\n{text}")


async def test_a_decision(client):
    response = await client.post("/v1/decisions", json={"prompt": "Score this"})
    assert response.status_code == 200
    body = response.json()
    assert body.pop("latencySeconds") >= 0
    assert len(body.pop("decisionId")) == 36
    assert body == {
        "policy": POLICY,
        "version": VERSION,
        "mode": "Primary",
        "source": "policy",
        "answer": GOOD,
        "confidence": 0.75,
        "propensity": 1.0,
        "tokens": 12,
    }


async def test_a_conversation(client):
    messages = [
        {"role": "system", "content": "You score reviews."},
        {"role": "user", "content": "bad"},
    ]
    response = await client.post("/v1/decisions", json={"messages": messages})
    assert response.json()["error"]["code"] == "AnswerSchemaViolation"


@pytest.mark.parametrize(
    "schema",
    [
        {
            "fields": [
                {"name": "score", "pattern": r"Score: (\d+)", "type": "Integer"}
                | {"min": 0, "max": 100}
            ],
            "confidence": "score",
        }
    ],
)
async def test_an_answer_says_its_fields_and_how_sure_it_is(client):
    body = (await client.post("/v1/decisions", json={"prompt": "Score this"})).json()
    assert (body["answer"], body["fields"], body["confidence"]) == (GOOD, {"score": 70}, 0.7)
    response = await client.post("/v1/decisions", json={"prompt": "bad"})
    assert response.json()["error"] == {
        "code": "AnswerSchemaViolation",
        "message": "the answer has no score: its pattern is not found",
    }


@pytest.mark.parametrize(
    "schema",
    [
        {
            "fields": [
                {
                    "name": "actions",
                    "pointer": "/actions",
                    "type": "Array",
                    "items": [{"name": "type", "pointer": "/type", "type": "String"}],
                },
                {"name": "rest", "pointer": "/rest", "type": "Object"},
            ]
        }
    ],
)
async def test_each_action_of_an_answer_has_an_id_of_its_own(client):
    said = {"actions": [{"type": "wait"}, {"type": "scale"}], "rest": {"none": None}}
    body = (await client.post("/v1/decisions", json={"prompt": json.dumps(said)})).json()
    assert body["fields"] == {
        "actions": [
            {"id": f"{body['decisionId']}.actions.0", "type": "wait"},
            {"id": f"{body['decisionId']}.actions.1", "type": "scale"},
        ],
        "rest": {"none": None},
    }


BAD_REQUESTS = [
    (
        b"{",
        400,
        "NotJSON",
        "the body is not JSON: Expecting property name enclosed in double quotes",
    ),
    (b'{"prompt": "\xff"}', 400, "NotJSON", "the body is not JSON: send UTF-8 text"),
    (b"", 422, "InvalidRequest", "the body is missing: set it"),
    (b"null", 422, "InvalidRequest", "the body must be an object"),
    (b"[]", 422, "InvalidRequest", "the body must be an object"),
    (
        b"{}",
        422,
        "InvalidRequest",
        "set exactly one of state, prompt and messages, or candidates",
    ),
    (
        b'{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}',
        422,
        "InvalidRequest",
        "set only one of prompt and messages",
    ),
    (b'{"prompt": "a", "state": {}}', 422, "InvalidRequest", "set only one of state and prompt"),
    (b'{"state": 1}', 422, "InvalidRequest", "state must be an object"),
    (b'{"state": {}, "topK": 0}', 422, "InvalidRequest", "topK must be at least 1"),
    (b'{"state": {}, "topK": "2"}', 422, "InvalidRequest", "topK must be a whole number"),
    (b'{"state": {}, "explain": 1}', 422, "InvalidRequest", "explain must be true or false"),
    (b'{"candidates": []}', 422, "InvalidRequest", "candidates must not be empty"),
    (b'{"candidates": [1]}', 422, "InvalidRequest", "candidates[0] must be a string"),
    (b'{"state": {}}', 422, "InvalidRequest", "this policy is asked with prompt"),
    (b'{"prompt": 1}', 422, "InvalidRequest", "prompt must be a string"),
    (b'{"prompt": ""}', 422, "InvalidRequest", "prompt must not be empty"),
    (
        json.dumps({"prompt": "x" * 100_001}).encode(),
        413,
        "PromptTooLong",
        "prompt has more than 100000 characters: shorten it",
    ),
    (
        b'{"prompt": "a", "temperature": 1}',
        422,
        "InvalidRequest",
        "temperature is not a known field: remove it",
    ),
    (b'{"messages": "a"}', 422, "InvalidRequest", "messages must be a list"),
    (b'{"messages": []}', 422, "InvalidRequest", "messages must not be empty"),
    (b'{"messages": ["a"]}', 422, "InvalidRequest", "messages[0] must be an object"),
    (
        b'{"messages": [{"role": "user"}]}',
        422,
        "InvalidRequest",
        "messages[0].content is missing: set it",
    ),
    (
        b'{"messages": [{"role": "tool", "content": "a"}]}',
        422,
        "InvalidRequest",
        "messages[0].role must be 'system', 'user' or 'assistant'",
    ),
    (
        b'{"messages": [{"role": "assistant", "content": "a"}]}',
        422,
        "InvalidRequest",
        "the last of messages must have role user",
    ),
    (
        json.dumps({"messages": [{"role": "user", "content": "a"}] * 257}).encode(),
        422,
        "InvalidRequest",
        "messages has more than 256 entries: send fewer",
    ),
    (
        b'{"prompt": "long"}',
        413,
        "PromptTooLong",
        "the prompt has 9 tokens, at most 8: shorten it",
    ),
    (
        b" " * (1 << 20) + b"{}",
        413,
        "BodyTooLong",
        "the body has more than 1048576 bytes: send a shorter prompt",
    ),
]


@pytest.mark.parametrize(("body", "status", "code", "message"), BAD_REQUESTS)
async def test_a_bad_request_is_told_what_to_change_and_is_no_decision(
    client, log, *, body, status, code, message
):
    response = await client.post(
        "/v1/decisions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.json() == {
        "error": {"code": code, "message": message},
        "policy": POLICY,
        "version": VERSION,
    }
    assert response.status_code == status
    assert await sample(client, keys.METRIC_DECISIONS, role="direct") == 0
    line = json.loads(log.getvalue())
    assert (line["message"], line["status"], line["code"]) == ("refused", status, code)


@pytest.mark.parametrize(
    ("headers", "declared"),
    [({}, "nothing"), ({"Content-Type": "text/plain"}, "text/plain")],
)
async def test_another_media_type_is_refused(client, headers, declared):
    response = await client.post("/v1/decisions", content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == 415
    assert response.json()["error"] == {
        "code": "NotJSON",
        "message": f"send Content-Type: application/json, not {declared}",
    }


async def test_a_media_type_with_a_charset_is_taken(client):
    response = await client.post(
        "/v1/decisions",
        content=b'{"prompt": "a"}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert response.status_code == 200


async def test_a_body_without_a_declared_length_is_limited_too(client):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (1 << 16)

    response = await client.post(
        "/v1/decisions", content=chunks(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("GET", "/v1/decide", 404, "NotFound", "there is no /v1/decide here: see /docs"),
        (
            "GET",
            "/v1/decisions",
            405,
            "MethodNotAllowed",
            "/v1/decisions does not take GET: see /docs",
        ),
    ],
)
async def test_a_wrong_path_or_method(client, *, method, path, status, code, message):
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"] == {"code": code, "message": message}


@pytest.mark.parametrize(
    ("prompt", "status", "code", "reason", "message"),
    [
        (
            "bad",
            500,
            "AnswerSchemaViolation",
            "answer_schema",
            r"the answer does not match the declared pattern 'Score: \\d+'",
        ),
        (
            "raise",
            500,
            "EngineFailed",
            "engine",
            "the model failed: the server's log says why",
        ),
    ],
)
async def test_a_failed_decision_is_counted_and_logged(
    client, log, *, prompt, status, code, reason, message
):
    headers = {keys.ROLE_HEADER: "candidate"}
    response = await client.post("/v1/decisions", json={"prompt": prompt}, headers=headers)
    assert response.status_code == status
    body = response.json()
    assert body["error"] == {"code": code, "message": message}
    role = {"role": "candidate"}
    assert await sample(client, keys.METRIC_DECISIONS, **role) == 1
    assert await sample(client, keys.METRIC_DECISION_ERRORS, reason=reason, **role) == 1
    assert await sample(client, keys.METRIC_DECISION_SECONDS + "_count", **role) == 1
    assert await sample(client, keys.METRIC_DECISION_ERRORS, reason=reason, role="stable") == 0
    line = [json.loads(text) for text in log.getvalue().splitlines()][-1]
    assert line["decisionId"] == body["decisionId"]
    assert (line["status"], line["valid"], line["reason"]) == (status, False, reason)


async def test_one_line_a_decision_without_its_text(client, log):
    headers = {keys.ROLE_HEADER: "stable"}
    await client.post("/v1/decisions", json={"prompt": "my secret review"}, headers=headers)
    line = json.loads(log.getvalue())
    assert line.pop("time").endswith("Z")
    assert line.pop("durationSeconds") > 0
    assert len(line.pop("decisionId")) == 36
    assert line == {
        "level": "info",
        "logger": "policy_server.decisions",
        "message": "decision",
        "policy": POLICY,
        "version": VERSION,
        "role": "stable",
        "status": 200,
        "mode": "Primary",
        "source": "policy",
        "valid": True,
    }


@pytest.mark.parametrize(
    ("header", "role"),
    [("stable", "stable"), ("candidate", "candidate"), ("admin", "direct"), (None, "direct")],
)
async def test_only_known_roles_become_labels(client, header, role):
    headers = {} if header is None else {keys.ROLE_HEADER: header}
    await client.post("/v1/decisions", json={"prompt": "a"}, headers=headers)
    assert await sample(client, keys.METRIC_DECISIONS, role=role) == 1
    assert "admin" not in (await client.get("/metrics")).text


async def test_every_series_exists_before_the_first_decision(client):
    for role in ("stable", "candidate", "direct"):
        assert await sample(client, keys.METRIC_DECISIONS, role=role) == 0
        assert await sample(client, keys.METRIC_OVERLOADS, role=role) == 0
        for reason in ("answer_schema", "engine"):
            labels = {"role": role, "reason": reason}
            assert await sample(client, keys.METRIC_DECISION_ERRORS, **labels) == 0


async def test_too_many_waiting_decisions_are_told_to_come_back(client, engine):
    engine.hold.clear()

    def post() -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(client.post("/v1/decisions", json={"prompt": "a"}))

    first = post()
    assert await asyncio.to_thread(engine.busy.wait, 10)
    crowd = [post() for _ in range(3)]  # two places in the queue
    done, waiting = await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    (refused,) = [task.result() for task in done]
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["error"]["code"] == "Overloaded"
    engine.hold.set()
    answers = await asyncio.gather(first, *waiting)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    # Crowded is not wrong: no alert on errors may send a version back for it.
    assert await sample(client, keys.METRIC_OVERLOADS, role="direct") == 1
    assert await sample(client, keys.METRIC_DECISIONS, role="direct") == 3
    for reason in ("answer_schema", "engine"):
        labels = {"role": "direct", "reason": reason}
        assert await sample(client, keys.METRIC_DECISION_ERRORS, **labels) == 0
    assert await sample(client, keys.METRIC_DECISION_SECONDS + "_count", role="direct") == 3


async def test_a_model_that_hangs_is_not_alive(client, engine, state):
    state.hang_seconds = 0.05
    assert (await client.get("/healthz")).status_code == 200
    engine.hold.clear()
    asked = asyncio.create_task(client.post("/v1/decisions", json={"prompt": "a"}))
    assert await asyncio.to_thread(engine.busy.wait, 10)
    async with asyncio.timeout(10):
        while (health := await client.get("/healthz")).status_code == 200:
            pass
    assert health.text == "the model has been computing for 0 s\n"
    engine.hold.set()
    assert (await asked).status_code == 200
    assert (await client.get("/healthz")).status_code == 200


async def test_before_the_model_is_loaded(client, state):
    state.service = None
    assert (await client.get("/healthz")).status_code == 200
    readiness = await client.get("/readyz")
    assert (readiness.status_code, readiness.text) == (503, "loading\n")
    response = await client.post("/v1/decisions", json={"prompt": "a"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["error"]["code"] == "NotReady"
    assert (await client.get("/v1/policy")).status_code == 503


async def test_while_draining_it_serves_but_is_not_ready_and_says_goodbye(client, state):
    assert (await client.get("/readyz")).status_code == 200
    state.draining = True
    readiness = await client.get("/readyz")
    assert (readiness.status_code, readiness.text) == (503, "draining\n")
    response = await client.post("/v1/decisions", json={"prompt": "a"})
    assert (response.status_code, response.headers["Connection"]) == (200, "close")


async def test_the_policy_says_where_it_comes_from(client, state):
    body = (await client.get("/v1/policy")).json()
    assert body["policy"] == POLICY
    assert body["version"] == VERSION
    assert body["sha256"] == state.service.artifact.sha256
    assert body["training"] == {"namespace": "ml", "name": "review-forge-grpo", "uid": "u-1"}
    assert body["answerSchema"] == SCHEMA
    assert body["metrics"] == [{"name": "reward", "value": 0.8}]


INSIDE = {"/v1/policy", "/healthz", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect"}
INSIDE |= {"/openapi.json", "/redoc"}


def test_each_path_is_published_or_stays_inside(state):
    """A path that is added to the server is decided on: it is no part of the route by itself."""
    paths = {route.path for route in iter_route_contexts(create_app(state).routes)}
    published = {p for p in paths if p.startswith(PUBLISHED)}
    assert "/v1/decisions" in published
    assert paths - published == INSIDE


@pytest.mark.parametrize(
    "path", ["..%2fpolicy", "%2e%2e%2fpolicy", "x/..%2f..%2fpolicy", "..;/policy"]
)
async def test_no_path_below_a_published_one_leads_elsewhere(client, path):
    """A gateway takes dots out of a path; slashes that are written as %2f come through."""
    response = await client.get(f"/v1/decisions/{path}")
    assert response.status_code == 404


async def test_the_interface_is_documented(client):
    assert "swagger" in (await client.get("/docs")).text
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {*PUBLISHED, "/v1/policy"} - {FEEDBACK}
    responses = document["paths"]["/v1/decisions"]["post"]["responses"]
    assert set(responses) == {"200", "400", "413", "415", "422", "500", "503", "504"}
    assert "decisionId" in document["components"]["schemas"]["DecisionResponse"]["properties"]
