"""Answers are scored after they were given: sampled, counted, and at no caller's cost."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from policy_api import keys
from server.listener import Listener, listener
from server.scripted import GOOD, lines, server, until
from server.test_kinds import env_of
from server.told import Told, counts, text_server

SQUARES = keys.METRIC_ANSWER_SCORE_SQUARES
DROPPED = keys.METRIC_ANSWER_SCORES_DROPPED
SUM, COUNT = f"{keys.METRIC_ANSWER_SCORE}_sum", f"{keys.METRIC_ANSWER_SCORE}_count"
NONE = {"queue_full": 0, "refused": 0, "timeout": 0, "unasked": 0, "unreachable": 0}


def scores(*values: Any) -> bytes:
    """Return what a reward model's server answers."""
    entries = [{"index": place, "score": value} for place, value in enumerate(values)]
    return json.dumps({"scores": entries, "policy": "reward", "version": 2}).encode()


@pytest.fixture
def reward() -> Iterator[Listener]:
    """A reward model's server, as far as its requests and answers go."""
    with listener() as found:
        found.answer = scores(-1.5)
        yield found


@asynccontextmanager
async def serving(
    env: dict[str, str], **options: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """Serve; yield a client, and the file of the server's log."""
    async with (
        server(env, **options) as (_, url, log),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client, log


def told(url: str, percent: int = 100, **more: Any) -> dict[str, Any]:
    how = {"deployment": "reward", "percent": percent, **more}
    return {"scoring": how, "peers": [{"deployment": "reward", "url": url}]}


async def sampled(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return a sum over what has these labels."""
    return sum((await counts(client, name, **labels)).values())


async def reached(client: httpx.AsyncClient, name: str, value: float) -> None:
    """Wait until a metric of role direct has this value."""
    while await sampled(client, name, role="direct") != value:  # noqa: ASYNC110 - over HTTP
        await asyncio.sleep(0.02)


async def ask(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/decisions", json=body)


@pytest.fixture
async def forge(tmp_path: Path, reward: Listener) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """A policy of texts whose answers are all scored."""
    Told(tmp_path).write(**told(reward.url))
    async with serving(text_server(tmp_path)) as (client, log):
        yield client, log


async def test_every_series_exists_from_the_start(tmp_path):
    async with serving(text_server(tmp_path)) as (client, _log):
        zero = {"stable": 0, "candidate": 0, "direct": 0}
        for name in (SUM, COUNT, SQUARES):
            assert await counts(client, name) == zero
        assert await counts(client, DROPPED, role="stable") == NONE
        then = await counts(client, keys.METRIC_THEN, role="candidate")
        assert set(then.values()) == {0}
        await ask(client, prompt="Hello")
        assert await counts(client, COUNT) == zero


async def test_an_answer_is_scored_as_it_was_asked_for(forge, reward):
    client, log = forge
    body = (await ask(client, prompt="Hello", runId="r")).json()
    await reached(client, COUNT, 1)
    await reached(client, SQUARES, 2.25)
    assert await sampled(client, SUM, role="direct") == -1.5
    reward.answer = scores(0.5)
    headers = {"x-policyops-role": "candidate"}
    messages = [{"role": "user", "content": "Hi"}]
    await client.post("/v1/decisions", json={"messages": messages}, headers=headers)
    await until(lambda: len(lines(log, "score")) == 2)
    assert await counts(client, COUNT) == {"stable": 0, "candidate": 1, "direct": 1}
    assert [(path, asked) for path, asked, _ in reward.asked] == [
        ("/v1/scores", {"prompt": "Hello", "candidates": [GOOD]}),
        ("/v1/scores", {"messages": messages, "candidates": [GOOD]}),
    ]
    first, _ = lines(log, "score")
    assert (first["decisionId"], first["score"]) == (body["decisionId"], -1.5)
    assert first["scoredBy"] == "reward version 2"
    assert "Hello" not in log.read_text()


async def test_what_is_no_answer_of_the_policys_is_not_scored(tmp_path, reward):
    file = Told(tmp_path)
    rule = {"strategy": "Rule", "rule": {"answer": "Score: 50, by nobody."}}
    file.write(**told(reward.url), baseline=rule)
    async with serving(text_server(tmp_path)) as (client, _log):
        assert (await ask(client, prompt="raise")).json()["source"] == "baseline"
        assert (await ask(client, prompt="long")).status_code == 413
        await ask(client, prompt="x", candidates=["a", "b"])
        chat = {"model": "review-forge", "messages": [{"role": "user", "content": "Hi"}]}
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        await reached(client, COUNT, 1)
    assert [asked["prompt"] for _, asked, _ in reward.asked] == ["Hi"]


async def test_a_slow_reward_model_costs_no_caller_anything(tmp_path, reward):
    """More answers than wait for it, while it says nothing at all."""
    reward.hold.clear()
    Told(tmp_path).write(**told(reward.url, timeoutMilliseconds=60_000))
    async with serving(text_server(tmp_path)) as (client, _log):
        for _ in range(80):
            assert (await ask(client, prompt="Hello")).status_code == 200
        full = await counts(client, DROPPED, role="direct")
        assert full == {**NONE, "queue_full": 80 - 64 - 2}
        reward.hold.set()
        await reached(client, COUNT, 66)


async def test_what_has_no_score_is_counted_by_why(tmp_path, reward):
    file = Told(tmp_path)
    with listener() as gone:
        dead = gone.url
    async with serving(text_server(tmp_path)) as (client, log):
        wanted = dict(NONE)
        cases = [
            ("timeout", 200, scores(1), told(reward.url, timeoutMilliseconds=20)),
            ("unreachable", 200, scores(1), told(dead)),
            ("unasked", 200, scores(1), {**told(dead), "peers": None}),
            ("refused", 422, b'{"error": {"code": "a", "message": "b"}}', told(reward.url)),
            ("refused", 200, b"[]", told(reward.url)),
            ("refused", 200, b'{"scores": []}', told(reward.url)),
            ("refused", 200, scores("much"), told(reward.url)),
            ("refused", 200, scores(float("nan")), told(reward.url)),
        ]
        for number, (reason, status, answer, config) in enumerate(cases, 1):
            reward.status, reward.answer = status, answer
            if reason == "timeout":
                reward.hold.clear()
            else:
                reward.hold.set()
            # Each file is another than the last one, which is what makes the server read it.
            file.write(**config, timeoutMilliseconds=10_000 + number)
            await until(lambda number=number: len(lines(log, "serving")) == number)
            assert (await ask(client, prompt="Hello")).status_code == 200
            wanted[reason] += 1
            await reached(client, DROPPED, number)
            assert await counts(client, DROPPED, role="direct") == wanted
        assert await sampled(client, COUNT) == 0
        reward.answer = scores(2)
        await ask(client, prompt="Hello")
        await reached(client, COUNT, 1)


async def test_a_part_of_the_answers_is_drawn(tmp_path, reward):
    Told(tmp_path).write(**told(reward.url, percent=50))
    async with serving(text_server(tmp_path)) as (client, _log):
        for _ in range(60):
            await ask(client, prompt="Hello")
        await until(lambda: len(reward.asked) > 0)
        await reached(client, COUNT, len(reward.asked))
    assert 0 < len(reward.asked) < 60, "missed once in 2^59 times"


async def test_a_policy_of_actions_has_nothing_to_be_scored(tmp_path, reward):
    file = Told(tmp_path)
    file.write(**told(reward.url, version=3))
    env = {**env_of("QNetwork", tmp_path), "POLICY_SERVING_PATH": str(file.path)}
    async with serving(env, module="policy_server") as (client, _log):
        state = {"task": "page", "languages": ["py"], "success_rate": 0.4}
        assert (await ask(client, state=state)).status_code == 200
        (problem,) = (await client.get("/v1/policy")).json()["servingProblems"]
    assert problem == (
        "scoring is for policies that write answers, and a QNetwork does not: remove scoring"
    )
    assert reward.asked == []


async def test_a_version_that_is_not_there_is_said(tmp_path, reward):
    Told(tmp_path).write(**told(reward.url, version=3))
    async with serving(text_server(tmp_path)) as (client, _log):
        (problem,) = (await client.get("/v1/policy")).json()["servingProblems"]
        assert problem.startswith("scoring asks reward version 3, and where that answers is")
        await ask(client, prompt="Hello")
        await reached(client, DROPPED, 1)
    assert reward.asked == [], "another version's scores can't be compared"


async def test_a_real_server_scores_another_ones_answers(tmp_path):
    plans = env_of("PlanPreference", tmp_path)
    async with server(plans, module="policy_server") as (_, scorer, _log):
        folder = tmp_path / "text"
        Told(folder).write(**told(scorer))
        async with serving(text_server(folder)) as (client, log):
            await ask(client, prompt="Hello")
            await reached(client, COUNT, 1)
            found = await sampled(client, SUM, role="direct")
            asked = {"prompt": "Hello", "candidates": [GOOD]}
            direct = (await client.post(f"{scorer}/v1/scores", json=asked)).json()
            assert found == pytest.approx(direct["scores"][0]["score"])
            (line,) = lines(log, "score")
            assert line["scoredBy"] == "plans version 1"
