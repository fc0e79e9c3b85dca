"""serving.json as a running server reads it: what is then answered, counted and said."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from policy_api import keys
from server.artifacts import environment, write_artifact
from server.scripted import GOOD, SCHEMA, lines, server, until
from server.test_kinds import env_of

STATE = {"task": "page", "languages": ["py"], "success_rate": 0.4}
FIXED = "Score: 50, by nobody."
RULE = {"strategy": "Rule", "rule": {"answer": FIXED}}


class Told:
    """The file, as the kubelet renews it: at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "serving.json"

    def write(self, **fields: Any) -> None:
        self.raw(json.dumps(fields))

    def raw(self, text: str) -> None:
        new = self.path.with_name("new")
        new.write_text(text)
        new.replace(self.path)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


@pytest.fixture
def env(tmp_path: Path, told: Told) -> dict[str, str]:
    schema = {**SCHEMA, "forbidden": ["(?i)password"]}
    sha256 = write_artifact(tmp_path / "artifact", answerSchema=schema)
    log = tmp_path / "termination-log"
    log.touch()
    return environment(
        tmp_path / "artifact",
        sha256,
        TERMINATION_LOG=str(log),
        POLICY_SERVING_PATH=str(told.path),
        DRAIN_SECONDS="0",
    )


async def ask(client: httpx.AsyncClient, prompt: str = "Hello", **more: Any) -> httpx.Response:
    return await client.post("/v1/decisions", json={"prompt": prompt, **more})


async def counts(client: httpx.AsyncClient, name: str, **labels: str) -> dict[str, float]:
    """Return the samples of a metric that have these labels: by all other labels but ours."""
    found = {}
    for line in (await client.get("/metrics")).text.splitlines():
        series, _, value = line.rpartition(" ")
        base, _, inside = series.partition("{")
        if base != name:
            continue
        have = dict(pair.split("=", 1) for pair in inside.rstrip("}").split(","))
        have = {key: text.strip('"') for key, text in have.items()}
        if labels.items() <= have.items():
            rest = {"policy", "version", *labels}
            found[",".join(have[key] for key in sorted(have) if key not in rest)] = float(value)
    return found


async def test_without_a_file_the_policy_answers(env):
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        body = (await ask(client)).json()
        assert (body["mode"], body["source"], body["answer"]) == ("Primary", "policy", GOOD)
        assert "autoApproved" not in body
        assert (await client.get("/v1/policy")).json()["serving"] == {}
        assert lines(log, "serving") == []


async def test_every_series_exists_from_the_start(env):
    async with server(env) as (_, url, _log), httpx.AsyncClient(base_url=url) as client:
        direct = {"role": "direct"}
        sources = await counts(client, keys.METRIC_ANSWERS, **direct)
        assert sources == {"policy": 0, "baseline": 0}
        reasons = ["answer_schema", "engine", "safety", "timeout"]
        failed = await counts(client, keys.METRIC_DECISION_ERRORS, **direct)
        assert failed == dict.fromkeys(reasons, 0)
        instead = await counts(client, keys.METRIC_BASELINE_ANSWERS, **direct)
        assert instead == dict.fromkeys([*reasons, "confidence"], 0)
        for name in (
            keys.METRIC_AUTO_APPROVED,
            keys.METRIC_SAFETY_VIOLATIONS,
            f"{keys.METRIC_CONFIDENCE}_count",
        ):
            assert await counts(client, name) == {"stable": 0, "candidate": 0, "direct": 0}
        assert await counts(client, keys.METRIC_SERVING_CONFIG_ERRORS) == {"": 0}


@pytest.mark.parametrize(
    ("prompt", "reason", "status", "code"),
    [
        ("raise", "engine", 500, "EngineFailed"),
        ("bad", "answer_schema", 500, "AnswerSchemaViolation"),
        ("leak", "safety", 500, "AnswerSchemaViolation"),
    ],
)
async def test_the_baseline_answers_where_the_policy_fails(env, told, prompt, reason, status, code):
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        failed = await ask(client, prompt)
        assert (failed.status_code, failed.json()["error"]["code"]) == (status, code)
        assert "swordfish" not in failed.text
        told.write(baseline=RULE, autoApprove={"minConfidence": 0})
        await until(lambda: len(lines(log, "serving")) == 1)
        response = await ask(client, prompt)
        body = response.json()
        assert response.status_code == 200
        assert (body["answer"], body["source"], body["autoApproved"]) == (FIXED, "baseline", False)
        assert body["propensity"] == 1.0
        errors = await counts(client, keys.METRIC_DECISION_ERRORS, role="direct")
        assert errors[reason] == sum(errors.values()) == 2, "the policy has failed all the same"
        instead = await counts(client, keys.METRIC_BASELINE_ANSWERS, role="direct")
        assert instead[reason] == sum(instead.values()) == 1
        sources = await counts(client, keys.METRIC_ANSWERS, role="direct")
        assert sources == {"policy": 0, "baseline": 1}
        violations = await counts(client, keys.METRIC_SAFETY_VIOLATIONS, role="direct")
        assert violations == {"": 2.0 if reason == "safety" else 0.0}
        logged = [
            (line["status"], line["valid"], line["reason"]) for line in lines(log, "decision")
        ]
        assert "swordfish" not in log.read_text()
        assert logged == [(status, False, reason), (200, False, reason)]


async def test_a_policy_that_takes_too_long_is_not_waited_for(env, told):
    told.write(timeoutMilliseconds=20)
    slow = {**env, "SCRIPTED_SECONDS": "0.5"}
    async with server(slow) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        late = await ask(client)
        assert late.status_code == 504
        assert late.json()["error"] == {
            "code": "Timeout",
            "message": (
                "the policy has not answered within 20 ms, its timeoutMilliseconds: try again"
            ),
        }
        told.write(timeoutMilliseconds=20, baseline=RULE)
        await until(lambda: len(lines(log, "serving")) == 2)
        body = (await ask(client)).json()
        assert (body["answer"], body["source"]) == (FIXED, "baseline")
        errors = await counts(client, keys.METRIC_DECISION_ERRORS, role="direct")
        assert errors["timeout"] == sum(errors.values()) == 2
        told.write(timeoutMilliseconds=60_000)
        await until(lambda: len(lines(log, "serving")) == 3)
        assert (await ask(client)).json()["source"] == "policy"


async def test_an_advisor_gives_a_text_in_its_ranking(env, told):
    told.write(mode="Advisor")
    async with server(env) as (_, url, _log), httpx.AsyncClient(base_url=url) as client:
        body = (await ask(client)).json()
        assert (body["mode"], body["autoApproved"]) == ("Advisor", False)
        assert not {"answer", "action", "propensity"} & set(body)
        assert body["ranking"] == [{"answer": GOOD, "score": 0.75, "confidence": 0.75}]


async def test_a_hybrid_answers_by_the_baseline_below_min_confidence(env, told):
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        for number, (least, source) in enumerate(((0.75, "policy"), (0.76, "baseline")), start=1):
            told.write(
                mode="Hybrid",
                minConfidence=least,
                baseline=RULE,
                autoApprove={"minConfidence": 0.5},
            )
            await until(lambda number=number: len(lines(log, "serving")) == number)
            body = (await ask(client)).json()
            assert (body["source"], body["mode"]) == (source, "Hybrid")
            assert body["autoApproved"] is (source == "policy")
            assert body["propensity"] == 1.0
        errors = await counts(client, keys.METRIC_DECISION_ERRORS, role="direct")
        assert sum(errors.values()) == 0, "to be unsure is no failure"
        instead = await counts(client, keys.METRIC_BASELINE_ANSWERS, role="direct")
        assert instead["confidence"] == 1
        assert await counts(client, keys.METRIC_AUTO_APPROVED, role="direct") == {"": 1}
        seen = await counts(client, f"{keys.METRIC_CONFIDENCE}_count", role="direct")
        assert seen == {"": 1}, "a fixed answer has no confidence"


async def test_a_bad_file_leaves_the_last_good_one_in_force(env, told):
    told.write(mode="Advisor")
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        for number, text in enumerate(("{", '{"mode": "Oracle"}', '{"schemaVersion": 2}'), 1):
            told.raw(text)
            await until(
                lambda number=number: (
                    len([line for line in _logged(log) if line["level"] == "error"]) == number
                )
            )
            assert (await ask(client)).json()["mode"] == "Advisor"
        assert await counts(client, keys.METRIC_SERVING_CONFIG_ERRORS) == {"": 3}
        told.path.unlink()
        await until(lambda: "is gone: what it said stays in force" in log.read_text())
        assert (await ask(client)).json()["mode"] == "Advisor"
        told.write(mode="Primary", shadow={"percent": 5})
        await until(lambda: len(lines(log, "serving")) == 2)
        assert (await ask(client)).json()["mode"] == "Primary"
        assert "shadow is unknown to this server" in log.read_text()


async def test_what_a_version_can_not_do_is_said_and_it_serves_on(env, told):
    told.write(baseline={"strategy": "HighestSuccess"}, exploration={"epsilon": 0.5})
    async with server(env) as (_, url, log), httpx.AsyncClient(base_url=url) as client:
        assert (await ask(client)).json()["propensity"] == 1.0
        assert (await ask(client, "raise")).status_code == 500
        made = (await client.get("/v1/policy")).json()
        baseline, exploration = made["servingProblems"]
        assert baseline == (
            "baseline HighestSuccess needs a record of what the training data chose, which this "
            "version lacks: use strategy Rule with an answer; without it, nothing answers in the "
            "policy's place"
        )
        assert exploration == (
            "exploration is for policies that choose actions, and a CausalLM does not: remove "
            "exploration"
        )
        assert await counts(client, keys.METRIC_SERVING_CONFIG_ERRORS) == {"": 2}
        for problem in made["servingProblems"]:
            assert len(lines(log, problem)) == 1


def _logged(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


async def test_actions_are_explored_and_their_log_is_true(tmp_path, told):
    """A real policy of actions: what its metrics and answers say adds up."""
    told.write(exploration={"epsilon": 0.5})
    env = {**env_of("QNetwork", tmp_path), "POLICY_SERVING_PATH": str(told.path)}
    async with (
        server(env, module="policy_server") as (_, url, _log),
        httpx.AsyncClient(base_url=url) as client,
    ):
        bodies = [
            (await client.post("/v1/decisions", json={"state": STATE, "topK": 99})).json()
            for _ in range(60)
        ]
        inputs = (await client.get("/v1/policy")).json()["inputs"]
        scored = await client.post(
            "/v1/decisions", json={"state": STATE, "candidates": ["backend"]}
        )
    others = len(inputs["actions"]) - 1
    assert scored.json()["propensity"] == 1.0, "there is nothing else to try"
    for body in bodies:
        best = body["ranking"][0]["action"]
        wanted = 0.5 if body["action"] == best else 0.5 / others
        assert body["propensity"] == pytest.approx(wanted)
        shown = {option["action"]: option["probability"] for option in body["ranking"]}
        assert shown[body["action"]] == body["propensity"]
        assert sum(shown.values()) == pytest.approx(1)
    assert len({body["action"] for body in bodies}) > 1, "missed once in 2^60 times"


async def test_ranked_candidates_are_no_decision_of_a_mode(tmp_path, told):
    told.write(
        mode="Hybrid",
        minConfidence=1,
        baseline={"strategy": "Random"},
        exploration={"epsilon": 1},
    )
    env = {**env_of("PlanPreference", tmp_path), "POLICY_SERVING_PATH": str(told.path)}
    plans = {"candidates": ["a vague plan", "a tested plan"]}
    async with (
        server(env, module="policy_server") as (_, url, _log),
        httpx.AsyncClient(base_url=url) as client,
    ):
        body = (await client.post("/v1/scores", json=plans)).json()
        assert [score["index"] for score in body["scores"]] == [1, 0]
        decided = (await client.post("/v1/decisions", json=plans)).json()
        assert (decided["source"], decided["propensity"]) == ("baseline", 0.5)
