"""POST /v1/chat/completions over a real socket: as OpenAI's own client asks, and as curl does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from policy_api import keys
from policy_server.http.app import State
from policy_server.http.auth import Door
from policy_server.http.tokens import Tokens
from server.artifacts import POLICY, VERSION
from server.live import events, listening, series, serving, tell
from server.scripted import GOOD, SCHEMA, Scripted, until
from server.typist import Typist

CHAT = "/v1/chat/completions"
TOKEN = "a" * 32
RULE = {"strategy": "Rule", "rule": {"answer": "Score: 50, by nobody."}}


@pytest.fixture
def engine() -> Typist:
    return Typist()


@pytest.fixture
def generation() -> dict:
    """How answers are generated; a test that wants another is parametrized by it."""
    return {}


@pytest.fixture
async def state(tmp_path: Path, engine: Typist, generation: dict) -> AsyncIterator[State]:
    folder = tmp_path / "artifact"
    async with serving(folder, engine, SCHEMA, queue_limit=2, generation=generation) as state:
        yield state
        engine.stepwise = False
        engine.steps.release(1000)


@pytest.fixture
async def url(state: State) -> AsyncIterator[str]:
    async with listening(state) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
async def theirs(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as theirs:
        yield theirs


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def post(client: httpx.AsyncClient, text: str = "Hello", **more: Any) -> httpx.Response:
    return await client.post(CHAT, json={"model": POLICY, "messages": user(text), **more})


async def test_openais_client_gets_an_answer(theirs, client):
    found = await theirs.chat.completions.create(model=POLICY, messages=user("Score this"))
    (choice,) = found.choices
    assert (choice.message.role, choice.message.content) == ("assistant", GOOD)
    assert choice.finish_reason == "stop"
    assert (found.model, found.system_fingerprint) == (POLICY, f"v{VERSION}")
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, len(GOOD))
    assert found.usage.total_tokens == 3 + len(GOOD)
    assert await series(client, keys.METRIC_DECISIONS) == 1


@pytest.mark.parametrize("usage", [True, False])
async def test_openais_client_gets_a_stream(theirs, usage):
    stream = await theirs.chat.completions.create(
        model=POLICY,
        messages=user("Score this"),
        stream=True,
        stream_options={"include_usage": usage},
    )
    chunks = [chunk async for chunk in stream]
    said = [chunk for chunk in chunks if chunk.choices]
    texts = [chunk.choices[0].delta.content for chunk in said]
    assert len(texts) > 3
    assert "".join(text or "" for text in texts) == GOOD
    assert [chunk.choices[0].delta.role for chunk in said if chunk.choices[0].delta.role] == [
        "assistant"
    ]
    assert [c.choices[0].finish_reason for c in said if c.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    used = [chunk.usage for chunk in chunks if chunk.usage]
    assert [one.total_tokens for one in used] == ([3 + len(GOOD)] if usage else [])
    if usage:
        assert chunks[-1].choices == []


async def test_a_stream_ends_as_clients_expect(client):
    response = await post(client, stream=True)
    assert response.text.endswith("\n\ndata: [DONE]\n\n")
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_an_answer_that_was_cut_off_says_so(theirs):
    found = await theirs.chat.completions.create(
        model=POLICY, messages=user("say Score: 1 and cut")
    )
    assert found.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (user("say Score: 1 of a user"), "Score: 1 of a user"),
        (
            [{"role": "system", "content": "Be strict."}, *user("say Score: 2 then")],
            "Score: 2 then",
        ),
        (
            [{"role": "developer", "content": "Be strict."}, *user("say Score: 3 then")],
            "Score: 3 then",
        ),
        (
            [
                *user("Hi"),
                {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": None},
                *user("say Score: 4 then"),
            ],
            "Score: 4 then",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "say Score: "},
                        {"type": "text", "text": "5 in parts"},
                    ],
                }
            ],
            "Score: 5 in parts",
        ),
    ],
)
async def test_a_conversation_is_taken_as_clients_write_it(theirs, messages, said):
    found = await theirs.chat.completions.create(model=POLICY, messages=messages)
    assert found.choices[0].message.content == said


NEUTRAL = {
    "n": 1,
    "top_p": 1.0,
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "logprobs": False,
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "temperature": 0,
    "max_tokens": 4096,
    "seed": 7,
    "user": "someone",
    "stop": None,
    "stream": None,
}


async def test_what_changes_nothing_is_taken(client):
    assert (await post(client, **NEUTRAL)).status_code == 200


JUDGED = "this policy answers as it was judged"
NOT_HONOURED = [
    ("n", 2, f"n must be left out: {JUDGED}"),
    ("top_p", 0.5, f"top_p must be left out: {JUDGED}"),
    ("stop", ["\n"], f"stop must be left out: {JUDGED}"),
    ("tools", [{"type": "function"}], f"tools must be left out: {JUDGED}"),
    ("logprobs", True, f"logprobs must be left out: {JUDGED}"),
    (
        "response_format",
        {"type": "json_object"},
        f"response_format must be left out: {JUDGED}",
    ),
    ("temperature", 0.7, f"temperature must be 0, or left out: {JUDGED}"),
    ("max_tokens", 5, f"max_tokens must be at least 512, or left out: {JUDGED}"),
    (
        "max_completion_tokens",
        511,
        f"max_completion_tokens must be at least 512, or left out: {JUDGED}",
    ),
]


@pytest.mark.parametrize("generation", [{"maxNewTokens": 512}])
@pytest.mark.parametrize(("name", "value", "sentence"), NOT_HONOURED)
async def test_what_would_change_the_answer_gets_one_sentence(client, name, value, sentence):
    response = await post(client, **{name: value})
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "message": sentence,
            "type": "invalid_request_error",
            "param": name,
            "code": "InvalidRequest",
        }
    }


@pytest.mark.parametrize("generation", [{"temperature": 0.7}])
async def test_what_is_sampled_takes_its_own_temperature_and_no_seed(client):
    assert (await post(client, temperature=0.7)).status_code == 200
    response = await post(client, seed=1)
    assert response.json()["error"]["message"] == (
        "seed must be left out: this policy draws each answer anew"
    )


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({"model": POLICY}, 422, "messages", "messages is missing: set it"),
        ({"messages": user("a")}, 422, "model", "model is missing: set it"),
        (
            {"model": POLICY, "messages": user("a"), "best_of": 2},
            422,
            "best_of",
            "best_of is not a known field: remove it",
        ),
        (
            {"model": POLICY, "messages": [{"role": "tool", "content": "a"}]},
            422,
            "messages.0.role",
            "messages[0].role must be 'system', 'developer', 'user' or 'assistant'",
        ),
        (
            {"model": POLICY, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            422,
            "messages.0.content",
            "content must be a string, or a list of parts of type text",
        ),
        (
            {"model": POLICY, "messages": [{"role": "assistant", "content": "a"}]},
            422,
            None,
            "the last of messages must have role user",
        ),
        (
            {"model": "gpt-5", "messages": user("a")},
            404,
            "model",
            f"there is no model 'gpt-5' here: set model to '{POLICY}'",
        ),
    ],
)
async def test_a_bad_request_is_told_in_openais_form(client, body, status, param, message):
    response = await client.post(CHAT, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["message"]) == (status, param, message)
    assert error["type"] == "invalid_request_error"
    assert await series(client, keys.METRIC_DECISIONS) == 0


@pytest.mark.parametrize(
    ("method", "content", "kind", "status", "code", "message"),
    [
        ("POST", b"{", "application/json", 400, "NotJSON", "the body is not JSON: "),
        ("POST", b"\xff", "application/json", 400, "NotJSON", "the body is not JSON: send UTF-8"),
        ("POST", b"{}", "text/plain", 415, "NotJSON", "send Content-Type: application/json, not"),
        (
            "POST",
            b" " * (1 << 20) + b"{}",
            "application/json",
            413,
            "BodyTooLong",
            "the body has more than 1048576 bytes",
        ),
        ("GET", b"", "", 405, "MethodNotAllowed", f"{CHAT} does not take GET: see /docs"),
    ],
)
async def test_what_is_no_request_is_told_in_openais_form(
    client, *, method, content, kind, status, code, message
):
    response = await client.request(
        method, CHAT, content=content, headers={"Content-Type": kind} if kind else {}
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert error["message"].startswith(message)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("say no number at all", openai.InternalServerError, "AnswerSchemaViolation"),
        ("raise", openai.InternalServerError, "EngineFailed"),
        ("refuse", openai.APIStatusError, "context_length_exceeded"),
    ],
)
async def test_openais_client_understands_a_failure(theirs, text, kind, code):
    with pytest.raises(kind) as caught:
        await theirs.chat.completions.create(model=POLICY, messages=user(text))
    assert caught.value.code == code


async def _read(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def test_openais_client_understands_a_failure_after_text_was_given(theirs):
    stream = await theirs.chat.completions.create(
        model=POLICY, messages=user("say no number at all"), stream=True
    )
    first = await anext(stream)
    assert first.choices[0].delta.content, "the text had begun"
    with pytest.raises(openai.APIError) as caught:
        await _read(stream)
    assert caught.value.code == "AnswerSchemaViolation"


async def test_what_fails_before_any_text_is_a_plain_error(client):
    response = await post(client, "raise", stream=True)
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "EngineFailed")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_baseline_answers_in_a_chat_too(client, state, stream):
    tell(state, baseline=RULE)
    response = await post(client, "raise", stream=stream)
    assert response.status_code == 200
    if not stream:
        assert response.json()["choices"][0]["message"]["content"] == "Score: 50, by nobody."
        return
    chunks = [event.data for event in events(response.text.removesuffix("data: [DONE]\n\n"))]
    said = [choice["delta"].get("content", "") for c in chunks for choice in c["choices"]]
    assert "".join(said) == "Score: 50, by nobody."


async def test_a_policy_that_advises_is_not_chatted_with(client, state):
    tell(state, mode="Advisor")
    response = await post(client)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "this policy advises: ask POST /v1/decisions, of whose ranking a person chooses"
    )


async def test_too_many_are_told_to_come_back_and_openais_client_does(client, engine, url):
    engine.stepwise = True
    tasks = [asyncio.create_task(post(client))]
    await until(lambda: len(engine.writing) == 1)
    tasks += [asyncio.create_task(post(client)) for _ in range(3)]  # two may wait
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = [task.result() for task in done]
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"] == {
        "message": "too many decisions are waiting: try again after the time that Retry-After says",
        "type": "server_error",
        "param": None,
        "code": "Overloaded",
    }
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as patient:
        asked = patient.chat.completions.create(model=POLICY, messages=user("Hello"))
        again = asyncio.create_task(asked)
        while await series(client, keys.METRIC_OVERLOADS) < 2:
            pass  # it is not sent away yet
        engine.stepwise = False
        engine.steps.release(1000)
        assert (await again).choices[0].message.content == GOOD
    await asyncio.gather(*tasks)


async def test_a_server_that_loads_says_so(client, state):
    state.service = None
    response = await post(client)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["error"]["code"] == "NotReady"


async def test_the_token_is_the_api_key(state, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"shop {TOKEN}\n")
    async with listening(state, Door(Tokens(file))) as url:
        wrong = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="b" * 32, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            await wrong.chat.completions.create(model=POLICY, messages=user("Hello"))
        assert caught.value.code == "invalid_api_key"
        assert caught.value.body["message"] == (
            "this token is not one of this policy's callers: ask whoever runs it for a token"
        )
        right = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)
        found = await right.chat.completions.create(model=POLICY, messages=user("Hello"))
        assert found.choices[0].message.content == GOOD
        await wrong.close()
        await right.close()


async def test_a_policy_that_writes_nothing_is_not_chatted_with(tmp_path):
    engine = Scripted()
    async with (
        serving(tmp_path, engine, {}, kind="PlanPreference", recipe="PlanPreference") as state,
        listening(state) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        response = await post(client)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "this policy writes no texts: ask POST /v1/decisions, see /docs"
    )
