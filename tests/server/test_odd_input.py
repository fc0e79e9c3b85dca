"""Odd bodies, headers and crowds over a real socket: one sentence each, and no traceback."""

import asyncio
import json
import logging
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from policy_api import keys
from policy_server.http.app import State
from policy_server.http.crowd import Crowd
from server.artifacts import POLICY
from server.live import listening, series, serving
from server.scripted import SCHEMA, until
from server.typist import Typist

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def engine() -> Typist:
    return Typist()


@pytest.fixture
async def state(tmp_path: Path, engine: Typist) -> AsyncIterator[State]:
    async with serving(tmp_path, engine, SCHEMA, queue_limit=2) as state:
        yield state
        engine.stepwise = False
        engine.steps.release(1000)


@pytest.fixture
async def url(state: State) -> AsyncIterator[str]:
    async with listening(state) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        yield client


@pytest.fixture(autouse=True)
def no_traceback(caplog):
    """Whatever comes, nothing is an error of the server's."""
    yield
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def nested(levels: int) -> bytes:
    return b'{"state": ' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


ODD = [
    (b'{"state": {"a": NaN}}', "the body has NaN, which is not JSON: send null where a number is"),
    (b'{"state": {"a": -Infinity}}', "the body has -Infinity, which is not JSON: send null where"),
    (b'{"state": {"a": 1e400}}', "the body has a number above 1.8e308: send a smaller one"),
    (
        b'{"state": {"a": 1' + b"0" * 5000 + b"}}",
        "the body has a number above 1.8e308: send a smaller one",
    ),
    (b'{"topK": 1' + b"0" * 5000 + b"}", "the body has a number above 1.8e308: send a smaller one"),
    (b'{"prompt": "a", "prompt": "b"}', "the body has the field 'prompt' twice: send it once"),
    (rb'{"prompt": "\ud800"}', "the body has half of a surrogate pair: send whole characters"),
    (rb'{"state": {"\udfff": 1}}', "the body has half of a surrogate pair: send whole characters"),
    (nested(100), "the body is nested more than 64 levels deep: send flatter JSON"),
    (nested(100_000), "the body is nested more than 64 levels deep: send flatter JSON"),
    (b"[" * 500_000, "the body is nested more than 64 levels deep: send flatter JSON"),
    (b'{"prompt": "\xff"}', "the body is not JSON: send UTF-8 text"),
    ('{"prompt": "a"}'.encode("utf-16"), "the body is not JSON: send UTF-8 text"),
    (b'{"prompt": "a"', "the body is not JSON: Expecting ',' delimiter"),
]


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/scores", "/v1/chat/completions"])
@pytest.mark.parametrize(("body", "sentence"), ODD)
async def test_what_is_no_json_of_one_meaning(client, path, body, sentence):
    response = await client.post(path, content=body, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "NotJSON")
    assert error["message"].startswith(sentence)
    assert await series(client, keys.METRIC_DECISIONS) == 0


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"topK": 10**30, "state": {}}, 422, "topK must be at most 100"),
        (
            {"candidates": ["x"] * 10_000},
            422,
            "candidates has more than 1000 entries: send fewer",
        ),
        (
            {"prompt": "a", "runId": "x" * 10_000},
            413,
            "runId has more than 128 characters: shorten it",
        ),
        ({"prompt": "a", "rumId": "x"}, 422, "rumId is not a known field: remove it"),
        ({"state": {"a": 1}}, 422, "this policy is asked with prompt: send that instead"),
        ({"prompt": {"a": 1}}, 422, "prompt must be a string"),
        ("prompt", 422, "the body must be an object"),
        (12, 422, "the body must be an object"),
    ],
)
async def test_json_that_asks_nothing(client, body, status, sentence):
    response = await client.post("/v1/decisions", json=body)
    assert (response.status_code, response.json()["error"]["message"]) == (status, sentence)


@pytest.mark.parametrize(
    "prompt", ["a\x00b", "\u202e\u200f", "e\u0301" * 50, "😀" * 50, "\ufffe", "{}" * 40]
)
async def test_any_whole_characters_are_a_prompt(client, prompt):
    response = await client.post("/v1/decisions", json={"prompt": f"say Score: 1 {prompt}"})
    assert response.json()["answer"] == f"Score: 1 {prompt}"


async def test_ten_megabytes_are_not_read(client):
    body = json.dumps({"prompt": "x" * 10_000_000}).encode()
    response = await client.post("/v1/decisions", content=body, headers=JSON)
    assert response.status_code == 413
    assert response.json()["error"]["message"] == (
        "the body has more than 1048576 bytes: send a shorter prompt"
    )
    assert (await client.post("/v1/decisions", json={"prompt": "a"})).status_code == 200


async def test_chunks_without_an_end_are_read_no_further_than_their_limit(client):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    response = await client.post("/v1/decisions", content=endless(), headers=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "BodyTooLong")


async def test_chunks_without_a_length_are_taken(client):
    async def chunks() -> AsyncIterator[bytes]:
        for letter in b'{"prompt": "a"}':
            yield bytes([letter])

    response = await client.post("/v1/decisions", content=chunks(), headers=JSON)
    assert response.status_code == 200


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br", 415), ("identity", 200)])
async def test_bodies_are_taken_as_they_are(client, coding, status):
    headers = {**JSON, "Content-Encoding": coding}
    response = await client.post("/v1/decisions", content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == status
    if status == 415:
        assert response.json()["error"]["message"] == (
            f"send the body as it is, without Content-Encoding: {coding}"
        )


async def raw(url: str, sent: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(sent)
    await writer.drain()
    async with asyncio.timeout(60):
        said = await reader.read()
    writer.close()
    return said


HEAD = b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("began", [b"", b'{"prompt"'])
async def test_a_body_that_does_not_come_is_not_waited_for(url, state, client, began):
    state.body_seconds = 0.2
    said = await raw(url, HEAD + b"Content-Length: 15\r\n\r\n" + began)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert json.loads(body) == {
        "error": {
            "code": "BodyTooSlow",
            "message": "the body has not come within 0.2 s: send it faster",
        },
        "policy": POLICY,
        "version": 3,
    }
    assert state.crowd.requests == 0


@pytest.mark.parametrize("began", [b"", b'{"prompt"'])
async def test_a_caller_that_goes_in_the_middle_of_a_body_leaves_nothing(url, state, client, began):
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(HEAD + b"Content-Length: 15\r\n\r\n" + began)
    await until(lambda: state.crowd.requests == 1 and state.crowd.bytes == len(began))
    writer.transport.abort()
    await until(lambda: state.crowd == Crowd())
    assert await series(client, keys.METRIC_DECISIONS) == 0


async def test_a_body_that_trickles_has_no_more_time_than_any_other(url, state):
    state.body_seconds = 0.3
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")

    async def trickle() -> None:
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    feeding = asyncio.create_task(trickle())
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    feeding.cancel()
    await asyncio.wait([feeding])
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
        + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(2000))
        + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET / HTTP/9\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_by_the_library(url, client, sent):
    try:
        said = await raw(url, sent)
    except ConnectionResetError:  # it was refused before it was whole
        said = b"HTTP/1.1 400 "
    assert said.startswith(b"HTTP/1.1 400 ")
    assert (await client.get("/healthz")).status_code == 200


@pytest.fixture
def many_files():
    """Enough open files for both ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_at_once_are_answered_or_told_to_come_back(url, client, engine):
    engine.stepwise = True
    body = b'{"prompt": "say Score: 1 of a thousand"}'
    sent = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    first = asyncio.create_task(raw(url, sent))
    await until(lambda: len(engine.writing) == 1)
    rest = [asyncio.create_task(raw(url, sent)) for _ in range(1000)]
    await until(lambda: sum(task.done() for task in rest) >= 998)  # two may wait
    refused = [task.result() for task in rest if task.done()]
    assert {said.partition(b" ")[2][:3] for said in refused} == {b"503"}
    assert all(b"retry-after: 1\r\n" in said for said in refused)
    assert (await client.get("/healthz")).status_code == 200
    engine.steps.release(1000)
    answers = [said for said in await asyncio.gather(first, *rest) if said not in refused]
    assert [said.partition(b" ")[2][:3] for said in answers] == [b"200"] * 3
    assert await series(client, keys.METRIC_OVERLOADS, role="direct") == 998


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/chat/completions"])
async def test_more_bodies_than_there_is_room_for_are_sent_away(client, state, engine, path):
    state.crowd.most_requests = 1
    engine.stepwise = True
    first = asyncio.create_task(client.post("/v1/decisions", json={"prompt": "a"}))
    await until(lambda: len(engine.writing) == 1)
    headers = {keys.ROLE_HEADER: "stable"}
    refused = await client.post(path, json={"prompt": "a"}, headers=headers)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"]["code"] == "Overloaded"
    assert await series(client, keys.METRIC_OVERLOADS, role="stable") == 1
    assert (await client.get("/v1/policy")).status_code == 200
    engine.steps.release(1000)
    assert (await first).status_code == 200
    await until(lambda: state.crowd == Crowd(most_requests=1))


async def test_bytes_are_counted_over_all_requests(client, state, engine):
    state.crowd.most_bytes = 1000
    engine.stepwise = True
    first = asyncio.create_task(client.post("/v1/decisions", json={"prompt": "a" * 600}))
    await until(lambda: len(engine.writing) == 1)
    assert (await client.post("/v1/decisions", json={"prompt": "a" * 600})).status_code == 503
    engine.steps.release(1000)
    assert (await first).status_code == 200
    await until(lambda: state.crowd == Crowd(most_bytes=1000))
    engine.stepwise = False
    assert (await client.post("/v1/decisions", json={"prompt": "a" * 600})).status_code == 200
