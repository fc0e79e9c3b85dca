"""Callers that go away: nothing is computed for them any more, and it is counted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from policy_api import keys
from policy_server.http.app import State
from server.artifacts import POLICY
from server.live import listening, series, serving
from server.scripted import SCHEMA, Scripted, until
from server.typist import Typist

LONG = f"say Score: 1 {'a' * 5000}"
CHAT = {"model": POLICY, "messages": [{"role": "user", "content": LONG}]}
ASKED = [
    ("/v1/decisions", {"prompt": LONG}, "application/json"),
    ("/v1/decisions", {"prompt": LONG}, "text/event-stream"),
    ("/v1/chat/completions", CHAT, "application/json"),
    ("/v1/chat/completions", {**CHAT, "stream": True}, "application/json"),
]


@pytest.fixture
def engine() -> Typist:
    return Typist()


@pytest.fixture
async def state(tmp_path: Path, engine: Typist) -> AsyncIterator[State]:
    async with serving(tmp_path, engine, SCHEMA) as state:
        yield state
        engine.stepwise = False
        engine.steps.release(1000)


@pytest.fixture
async def url(state: State) -> AsyncIterator[str]:
    async with listening(state) as url:
        yield url


async def count(url: str, name: str, **labels: str) -> float:
    async with httpx.AsyncClient(base_url=url) as client:
        return await series(client, name, **labels)


async def leave(task: asyncio.Task, client: httpx.AsyncClient) -> None:
    """Close the connection of a request that waits."""
    task.cancel()
    await asyncio.wait([task])
    await client.aclose()


@pytest.mark.parametrize(("path", "body", "accept"), ASKED)
async def test_an_answer_is_left_when_its_caller_goes(url, engine, path, body, accept):
    engine.stepwise = True
    client = httpx.AsyncClient(base_url=url, timeout=30)
    task = asyncio.create_task(client.post(path, json=body, headers={"Accept": accept}))
    await until(lambda: len(engine.writing) == 1)
    await leave(task, client)
    while engine.writing:  # it is seen between two steps
        engine.steps.release()
        await asyncio.sleep(0.001)
    assert [one.text for one in engine.left] == [LONG.removeprefix("say ")]
    assert await count(url, keys.METRIC_CANCELLATIONS, role="direct") == 1
    assert await count(url, keys.METRIC_CANCELLATIONS) == 1
    assert await count(url, keys.METRIC_DECISIONS) == 0


async def test_what_waits_is_never_begun_when_its_caller_goes(url, engine, state):
    engine.stepwise = True
    stays = httpx.AsyncClient(base_url=url, timeout=30)
    first = asyncio.create_task(stays.post("/v1/decisions", json={"prompt": "a"}))
    await until(lambda: len(engine.writing) == 1)
    client = httpx.AsyncClient(base_url=url, timeout=30)
    task = asyncio.create_task(client.post("/v1/decisions", json={"prompt": LONG}))
    while await count(url, keys.METRIC_WAITING_DECISIONS) < 1:
        pass  # it has not arrived yet
    await leave(task, client)
    while await count(url, keys.METRIC_CANCELLATIONS) < 1:
        pass  # it is not seen yet
    assert await count(url, keys.METRIC_WAITING_DECISIONS) == 0
    engine.steps.release(1000)
    assert (await first).status_code == 200
    assert engine.most == 1, "it was not begun"
    await stays.aclose()


async def test_a_batch_passes_over_who_went_away(tmp_path):
    engine = Scripted()
    async with serving(tmp_path, engine, SCHEMA) as state, listening(state) as url:
        engine.hold.clear()
        stays = httpx.AsyncClient(base_url=url, timeout=30)
        first = asyncio.create_task(stays.post("/v1/decisions", json={"prompt": "a"}))
        assert await asyncio.to_thread(engine.busy.wait, 10)
        client = httpx.AsyncClient(base_url=url, timeout=30)
        task = asyncio.create_task(client.post("/v1/decisions", json={"prompt": "b"}))
        while await count(url, keys.METRIC_WAITING_DECISIONS) < 1:
            pass  # it has not arrived yet
        await leave(task, client)
        while await count(url, keys.METRIC_CANCELLATIONS) < 1:
            pass  # it is not seen yet
        engine.hold.set()
        assert (await first).status_code == 200
        assert (await stays.post("/v1/decisions", json={"prompt": "c"})).status_code == 200
        assert engine.batches == [1, 1]
        assert await count(url, keys.METRIC_DECISIONS) == 2
        await stays.aclose()


async def test_the_engine_tells_of_batches_and_tokens(url):
    async with httpx.AsyncClient(base_url=url) as client:
        for kind in ("prompt", "answer"):
            assert await series(client, keys.METRIC_TOKENS, kind=kind, role="stable") == 0
        assert await series(client, f"{keys.METRIC_BATCH_SIZE}_count") == 0
        for role in ("stable", "candidate", "direct"):
            assert await series(client, keys.METRIC_CANCELLATIONS, role=role) == 0
        said = "Score: 1 and ten"
        asked = {"json": {"prompt": f"say {said}"}, "headers": {keys.ROLE_HEADER: "stable"}}
        assert (await client.post("/v1/decisions", **asked)).status_code == 200
        assert await series(client, keys.METRIC_TOKENS, kind="answer", role="stable") == len(said)
        assert await series(client, keys.METRIC_TOKENS, kind="prompt", role="stable") == 3
        asked["json"] = {"prompt": "say no number in here"}
        assert (await client.post("/v1/decisions", **asked)).status_code == 500
        wrote = len(said) + len("no number in here")
        assert await series(client, keys.METRIC_TOKENS, kind="answer", role="stable") == wrote
