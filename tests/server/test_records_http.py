"""Outcomes, feedback and look-ups over HTTP, and what the log keeps of a decision."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from policy_api.contract.serving import ServingConfig
from policy_server.artifact import open_artifact
from policy_server.decisions.service import DecisionService
from policy_server.engine.batching import Batcher
from policy_server.http.app import State, create_app
from policy_server.http.auth import Door
from policy_server.http.tokens import Tokens
from policy_server.metrics import Metrics
from policy_server.records.keeping import Decider
from policy_server.records.metrics import LogMetrics
from policy_server.records.opening import open_log
from policy_server.settings import LogOptions, SettingsInvalidError
from server.artifacts import POLICY, VERSION, write_artifact
from server.scripted import GOOD, SCHEMA, Scripted
from server.test_http import sample

TOKEN = "s" * 32
NOBODYS = uuid.UUID(int=7)
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}", "x-policyops-user": "ana"}


def options(folder, **changes):
    url = folder / "url"
    if not url.exists():
        url.write_text(f"{folder / 'log.sqlite3'}\n")
    values = {"url_file": url, "namespace": "ml", "deployment": "review"}
    return LogOptions(**(values | {"spool_folder": folder / "spool"} | changes))


@asynccontextmanager
async def serving(
    folder, door, told=None, *, schema=SCHEMA, answer=None
) -> AsyncIterator[tuple[httpx.AsyncClient, State]]:
    """Serve with a log; `answer` is what the policy says to a state."""
    (folder / "artifact").mkdir()
    sha256 = write_artifact(folder / "artifact", answerSchema=schema)
    artifact = open_artifact(
        str(folder / "artifact"),
        sha256=sha256,
        policy=POLICY,
        version=VERSION,
        download_folder=folder,
    )
    metrics, engine = Metrics(POLICY, VERSION), Scripted()
    engine.to_state = answer
    log = open_log(told or options(folder), LogMetrics(metrics.registry, POLICY, VERSION))
    batcher = Batcher(engine, queue_limit=2, batch_limit=1, wait_seconds=0)
    worker = asyncio.create_task(batcher.run())
    keep = log.keeper(Decider(POLICY, VERSION, writes=True))
    service = DecisionService(artifact, engine, batcher, metrics, keep=keep)
    state = State(POLICY, VERSION, metrics, service, log)
    transport = httpx.ASGITransport(create_app(state, door))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, state
    worker.cancel()
    await asyncio.wait([worker])
    await asyncio.to_thread(log.close, 5)


@pytest.fixture
def tokens(tmp_path) -> Door:
    (tmp_path / "tokens").write_text(f"shop {TOKEN}\n")
    return Door(Tokens(tmp_path / "tokens"))


@pytest.fixture
async def client(tmp_path, tokens) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, tokens) as (client, _):
        client.headers.update(WITH_TOKEN)
        yield client


async def kept(client, decision_id):
    """Look a decision up, once it is written."""
    async with asyncio.timeout(20):
        while True:
            response = await client.get(f"/v1/decisions/{decision_id}")
            assert response.status_code in {200, 404, 503}, response.text  # 503: no tables yet
            if response.status_code == 200:
                return response.json()
            await asyncio.sleep(0.01)


async def decide(client, **body):
    asked = {"prompt": "Score this", "runId": "r-1", "context": {"team": 7}, **body}
    response = await client.post("/v1/decisions", json=asked, headers={"x-request-id": "q-1"})
    return response.json()["decisionId"]


async def test_a_decision_is_kept_with_what_came_of_it(client):
    made = await decide(client)
    assert uuid.UUID(made).version == 7
    path = f"/v1/decisions/{made}/outcome"
    response = await client.post(path, json={"reward": 1, "success": True})
    assert (response.status_code, response.json()) == (200, {"decisionId": made})
    await client.post(path, json={"followed": False, "nextState": {"a": 1}, "done": True})
    said = {"decisionId": made, "text": "not good at all", "correctedAction": "Score: 10."}
    first = (await client.post("/v1/feedback", json=said)).json()
    assert first == (await client.post("/v1/feedback", json=said)).json()  # the same words, once
    assert first["label"] == "Negative"
    about_run = {"runId": "r-1", "tags": "pos"}
    assert (await client.post("/v1/feedback", json=about_run)).json()["label"] == "Positive"
    found = await kept(client, made)
    assert found.pop("at").endswith("Z")
    assert found.pop("latencySeconds") >= 0
    assert found.pop("outcome").pop("at")
    words = found.pop("feedback")
    assert [(w.get("decisionId"), w.get("runId"), w["label"], w["caller"]) for w in words] == [
        (made, None, "Negative", "shop/ana"),
        (None, "r-1", "Positive", "shop/ana"),
    ]
    assert words[0]["correctedAction"] == "Score: 10."
    assert found == {
        "decisionId": made,
        "policy": POLICY,
        "version": VERSION,
        "role": "direct",
        "mode": "Primary",
        "source": "policy",
        "valid": True,
        "runId": "r-1",
        "requestId": "q-1",
        "caller": "shop/ana",
        "prompt": "Score this",
        "context": {"team": 7},
        "ranking": [{"action": GOOD, "score": 0.75, "probability": 1.0, "confidence": 0.75}],
        "answer": GOOD,
        "propensity": 1.0,
        "confidence": 0.75,
        "tokens": 12,
    }
    labels = {"role": "direct"}
    assert await sample(client, "policyops_rewards_total", **labels) == 1
    assert await sample(client, "policyops_outcomes_total", **labels, success="true") == 1
    assert await sample(client, "policyops_followed_total", **labels, followed="false") == 1
    assert await sample(client, "policyops_feedback_total", **labels, label="Negative") == 1
    assert await sample(client, "policyops_feedback_total", **labels, label="Positive") == 1
    assert await sample(client, "policyops_overrides_total", **labels) == 1


async def test_a_decision_that_failed_is_kept_as_well(client):
    response = await client.post("/v1/decisions", json={"prompt": "bad"})
    found = await kept(client, response.json()["decisionId"])
    assert (found["valid"], found["failure"]) == (False, "answer_schema")
    assert "answer" not in found


async def test_candidates_and_messages_are_kept(client):
    messages = [{"role": "user", "content": "which?"}]
    response = await client.post(
        "/v1/decisions", json={"messages": messages, "candidates": ["a", "b"]}
    )
    found = await kept(client, response.json()["decisionId"])
    assert (found["prompt"], found["candidates"]) == (messages, ["a", "b"])


async def test_a_ranking_chooses_nothing(client):
    body = {"prompt": "which?", "candidates": ["a", "b"], "runId": "r-2"}
    made = (await client.post("/v1/scores", json=body)).json()["decisionId"]
    found = await kept(client, made)
    assert not {"answer", "action", "propensity"} & found.keys()
    assert found["runId"] == "r-2"
    assert found["ranking"]


async def test_feedback_by_a_chat_client(client):
    body = {"model": POLICY, "messages": [{"role": "user", "content": "Score this"}]}
    made = (await client.post("/v1/chat/completions", json=body)).json()["id"]
    assert (await kept(client, made))["answer"] == GOOD


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/decisions/x/outcome",
            {"reward": 1},
            "a decisionId is a UUID, as POST /v1/decisions answers it",
        ),
        (
            f"/v1/decisions/{NOBODYS}/outcome",
            {},
            "set at least one of reward, success, followed, nextState and done",
        ),
        (
            f"/v1/decisions/{NOBODYS}/outcome",
            {"success": "yes"},
            "success must be true or false",
        ),
        (
            f"/v1/decisions/{NOBODYS}/outcome",
            {"rewards": 1},
            "rewards is not a known field: remove it",
        ),
        ("/v1/feedback", {"text": "good"}, "set exactly one of decisionId and runId"),
        (
            "/v1/feedback",
            {"runId": "r"},
            "set at least one of text, tags, label and correctedAction",
        ),
        ("/v1/feedback", {"runId": "r", "label": "pos"}, "label must be 'Positive' or 'Negative'"),
    ],
)
async def test_what_cannot_be_kept_gets_one_sentence(client, path, body, message):
    response = await client.post(path, json=body)
    assert response.status_code == 422
    assert response.json()["error"]["message"] == message


async def test_a_reward_is_a_number(client):
    path = f"/v1/decisions/{uuid.uuid4()}/outcome"
    for text in ("NaN", "1e999", '"1"', "true"):
        response = await client.post(
            path, content=f'{{"reward": {text}}}', headers={"Content-Type": "application/json"}
        )
        assert response.status_code in {400, 422}, text
    assert (await client.post(path, json={"reward": 1e15})).status_code == 200


async def test_an_outcome_may_come_before_its_decision(client):
    unknown = uuid.uuid4()
    response = await client.post(f"/v1/decisions/{unknown}/outcome", json={"reward": 1})
    assert response.status_code == 200
    assert (await client.get(f"/v1/decisions/{unknown}")).status_code == 404


async def test_the_same_feedback_a_hundred_times_is_one(client):
    made = await decide(client)
    said = {"decisionId": made, "tags": ["pos"]}
    answers = await asyncio.gather(*(client.post("/v1/feedback", json=said) for _ in range(100)))
    assert {answer.json()["feedbackId"] for answer in answers} != set()
    await kept(client, made)
    assert len((await kept(client, made))["feedback"]) == 1
    other = {**said, "id": str(uuid.uuid4())}
    await client.post("/v1/feedback", json=other)
    assert len((await kept(client, made))["feedback"]) == 2


async def test_nobody_unknown_looks_a_decision_up(tmp_path):
    async with serving(tmp_path, Door()) as (client, _):
        made = await decide(client)
        response = await client.get(f"/v1/decisions/{made}")
        assert (response.status_code, response.json()["error"]["code"]) == (403, "Forbidden")
        said = {"decisionId": made, "tags": ["pos"]}
        assert (await client.post("/v1/feedback", json=said)).status_code == 200


async def test_without_a_log_one_sentence_says_so(tmp_path, tokens):
    async with serving(tmp_path, tokens) as (client, state):
        client.headers.update(WITH_TOKEN)
        log, state.log = state.log, None
        made = uuid.uuid4()
        for response in (
            await client.post(f"/v1/decisions/{made}/outcome", json={"reward": 1}),
            await client.post("/v1/feedback", json={"runId": "r", "tags": ["pos"]}),
            await client.get(f"/v1/decisions/{made}"),
        ):
            assert response.status_code == 404
            assert response.json()["error"] == {
                "code": "NoDecisionLog",
                "message": "this policy keeps no decision log: set spec.server.decisionLog",
            }
        state.log = log


async def test_what_is_redacted_is_nowhere(tmp_path, tokens):
    (tmp_path / "redaction-key").write_text("k" * 32)
    told = options(
        tmp_path,
        redact=("/prompt", "/answer", "/candidates/*", "/context/team", "/text", "/nextState/a"),
        redaction_key_file=tmp_path / "redaction-key",
    )
    async with serving(tmp_path, tokens, told) as (client, _):
        client.headers.update(WITH_TOKEN)
        made = await decide(client, prompt="secret-1 Score this", context={"team": "secret-2"})
        await client.post(
            f"/v1/decisions/{made}/outcome", json={"nextState": {"a": "secret-3", "b": 1}}
        )
        await client.post("/v1/feedback", json={"decisionId": made, "text": "secret-4 bad"})
        chosen = await decide(client, candidates=["secret-5", "secret-6"])
        found = [await kept(client, one) for one in (made, chosen)]
        assert found[0]["feedback"][0]["label"] == "Negative"  # judged before it was replaced
        assert found[0]["outcome"]["nextState"]["b"] == 1
        ranked = {option["action"] for option in found[1]["ranking"]}
        assert ranked <= set(found[1]["candidates"])
        said = json.dumps(found)
        assert "secret" not in said
        assert GOOD not in said
    assert b"secret" not in (tmp_path / "log.sqlite3").read_bytes()


async def test_the_baselines_answer_is_kept_as_its_own(tmp_path, tokens):
    async with serving(tmp_path, tokens) as (client, state):
        client.headers.update(WITH_TOKEN)
        rule = {"strategy": "Rule", "rule": {"answer": GOOD}}
        state.service.tell(ServingConfig.model_validate({"baseline": rule}))
        found = await kept(client, await decide(client, prompt="bad"))
        assert (found["source"], found["valid"], found["failure"]) == (
            "baseline",
            False,
            "answer_schema",
        )


@pytest.mark.parametrize(
    ("url", "changes", "sentence"),
    [
        (None, {}, "the decision log needs "),
        ("mysql://a:secret@b/c", {}, "the decision log's URL starts with mysql: it must be"),
        ("log.sqlite3", {"redact": ("/prompt",)}, "redact needs a key of at least 16 bytes"),
        ("log.sqlite3", {"redact": ("/team",), "key": True}, "redact: '/team' must be a JSON"),
    ],
)
def test_a_log_that_cannot_be_kept_is_told_at_the_start(tmp_path, url, changes, sentence):
    file = tmp_path / "told"
    if url is not None:
        file.write_text(url)
    if changes.pop("key", False):
        (tmp_path / "key").write_text("k" * 32)
        changes["redaction_key_file"] = tmp_path / "key"
    with pytest.raises(SettingsInvalidError) as raised:
        open_log(
            options(tmp_path, url_file=file, **changes),
            LogMetrics(Metrics(POLICY, VERSION).registry, POLICY, VERSION),
        )
    assert str(raised.value).startswith(sentence)
    assert "secret" not in str(raised.value)


async def test_a_decision_knows_the_share_of_traffic_that_its_version_had(client):
    shares = {"5": 5, "100": 100, "": None, "x": None, "1000": None, "-1": None, "٣": None}
    for header, share in shares.items():
        sent = {"x-policyops-weight": header.encode()}
        made = await client.post("/v1/decisions", json={"prompt": "Score this"}, headers=sent)
        assert (await kept(client, made.json()["decisionId"])).get("weight") == share
