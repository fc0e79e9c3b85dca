"""Patterns of answer schemas that have no end: neither the server nor its probes wait for them."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from policy_api import keys
from server.live import ask, events, listening, series, serving, tell
from server.scripted import until
from server.typist import Typist

SLOW = r"^(a|aa)+$"
PROMPT = f"say {'a' * 200}b"
SENTENCE = (
    f"the pattern {SLOW!r} was not judged within 1 s: write it without repetitions of repetitions"
)
SCHEMAS = {
    "patterns": {"patterns": [SLOW]},
    "forbidden": {"forbidden": [SLOW]},
    "fields": {"fields": [{"name": "letters", "type": "String", "pattern": SLOW}]},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
async def test_what_can_not_be_judged_in_time_is_a_failed_decision(tmp_path: Path, schema):
    async with (
        serving(tmp_path, Typist(), schema) as state,
        listening(state) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        response = await client.post("/v1/decisions", json={"prompt": PROMPT})
        assert response.status_code == 500
        assert response.json()["error"] == {"code": "AnswerSchemaViolation", "message": SENTENCE}
        assert await series(client, keys.METRIC_DECISION_ERRORS, reason="answer_schema") == 1
        assert await series(client, keys.METRIC_SAFETY_VIOLATIONS) == 0
        streamed = await ask(client, PROMPT)
        held = "forbidden" in schema  # nothing is said before it is judged
        told = streamed.json() if held else events(streamed.text)[-1].data
        assert told["error"]["message"] == SENTENCE


async def test_probes_are_answered_while_an_answer_is_judged(tmp_path: Path):
    async with (
        serving(tmp_path, Typist(), SCHEMAS["patterns"]) as state,
        listening(state) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        check, judging = state.service._check, threading.Event()
        judge = check.judged

        def judged(found):
            judging.set()
            return judge(found)

        check.judged = judged
        task = asyncio.create_task(client.post("/v1/decisions", json={"prompt": PROMPT}))
        await until(judging.is_set)
        assert (await client.get("/healthz")).status_code == 200
        assert not task.done(), "it is judged while the probe is answered"
        assert (await task).status_code == 500


async def test_a_baseline_answers_with_its_own_fields(tmp_path: Path):
    fields = [{"name": "letters", "type": "String", "pattern": "^([ab]+)$"}]
    async with (
        serving(tmp_path, Typist(), {"patterns": [SLOW], "fields": fields}) as state,
        listening(state) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        tell(state, baseline={"strategy": "Rule", "rule": {"answer": "aaa"}})
        body = (await client.post("/v1/decisions", json={"prompt": PROMPT})).json()
        assert (body["source"], body["answer"]) == ("baseline", "aaa")
        assert body["fields"] == {"letters": "aaa"}
        body = (await client.post("/v1/decisions", json={"prompt": "say aaaa"})).json()
        assert (body["source"], body["fields"]) == ("policy", {"letters": "aaaa"})
