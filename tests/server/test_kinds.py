"""Every kind of tables over HTTP, by the real process, without torch."""

import hashlib
import json

import httpx
import pytest
from policy_api import keys
from server.artifacts import environment
from server.scripted import lines, server, terminate

from models import golden


def env_of(kind, tmp_path):
    folder = golden.FOLDER / kind
    made = golden.manifest_of(folder)
    log = tmp_path / "termination-log"
    log.touch()
    sha256 = hashlib.sha256((folder / "policy.json").read_bytes()).hexdigest()
    told = environment(folder, sha256, TERMINATION_LOG=str(log), DRAIN_SECONDS="0")
    return {**told, "POLICY_NAME": made.policy, "POLICY_VERSION": str(made.version)}


@pytest.mark.parametrize("kind", golden.KINDS)
async def test_it_serves_what_the_policy_says(kind, tmp_path):
    async with server(env_of(kind, tmp_path), module="policy_server") as (process, url, log):
        async with httpx.AsyncClient(base_url=url) as client:
            for pair in golden.kept(kind):
                asked = {**pair["request"], "topK": 100, "explain": True}
                response = await client.post("/v1/decisions", json=asked)
                wanted, body = pair["answer"], response.json()
                if "code" in wanted:
                    assert response.status_code == 422
                    assert body["error"] == wanted
                    continue
                assert response.status_code == 200, body
                _check(kind, body, wanted)
            about = (await client.get("/v1/policy")).json()
            assert about["kind"] == kind
            assert about["inputs"]
        terminate(process)
        assert await process.wait() == keys.EXIT_SUCCEEDED
    assert "torch" not in log.read_text()
    assert lines(log, "ready")


def _check(kind, body, wanted):
    ranking = wanted["ranking"]
    assert [entry["action"] for entry in body["ranking"]] == [o["action"] for o in ranking]
    assert [entry["confidence"] for entry in body["ranking"]] == pytest.approx(
        [option["confidence"] for option in ranking], abs=1e-6
    )
    assert [len(entry["reasons"]) for entry in body["ranking"]] == [
        len(option["reasons"]) for option in ranking
    ]
    if kind == "OfferPolicy":  # it draws
        assert body["action"] in {option["action"] for option in ranking}
    else:
        assert (body["action"], body["propensity"]) == (ranking[0]["action"], 1)
    parts = body["action"].split(">")
    assert body.get("sequence") == (parts if kind == "QNetwork" and len(parts) > 1 else None)
    assert body.get("unseen", []) == wanted["unseen"]


async def test_scores_are_in_the_order_of_the_candidates_worth(tmp_path):
    plans = ["a vague plan", "a tested plan", "a vague plan", "a plan"]
    env = env_of("PlanPreference", tmp_path)
    async with server(env, module="policy_server") as (_, url, _), httpx.AsyncClient() as client:
        response = await client.post(f"{url}/v1/scores", json={"candidates": plans})
        body = response.json()
        assert [entry["index"] for entry in body["scores"]] == [1, 3, 0]
        found = [entry["score"] for entry in body["scores"]]
        assert found == sorted(found, reverse=True)
        assert "reasons" not in body["scores"][0]
        unknown = await client.post(f"{url}/v1/decisions", json={"candidates": ["x"] * 1001})
        assert unknown.json()["error"]["message"] == (
            "candidates has more than 1000 entries: send fewer"
        )


async def test_an_unseen_category_is_served_and_counted(tmp_path):
    state = {"task": "never seen", "languages": ["go", "rust"], "success_rate": 0.5}
    env = env_of("QNetwork", tmp_path)
    async with server(env, module="policy_server") as (_, url, _), httpx.AsyncClient() as client:
        body = (await client.post(f"{url}/v1/decisions", json={"state": state})).json()
        assert body["unseen"] == ["task", "languages"]
        metrics = (await client.get(f"{url}/metrics")).text
    assert f'{keys.METRIC_UNSEEN_CATEGORIES}{{policy="agents",role="direct",version="1"}} 2.0' in (
        metrics
    )


@pytest.mark.parametrize("module", ["torch", "xgboost"])
async def test_a_server_without_what_the_kind_needs_says_so(module, tmp_path):
    """As the image for tables, asked to serve a text: a module that cannot be imported."""
    kind = "Classifier"
    folder = tmp_path / "artifact"
    folder.mkdir()
    made = json.loads((golden.FOLDER / kind / "policy.json").read_text())
    for file in made["files"]:
        (folder / file["path"]).write_bytes((golden.FOLDER / kind / file["path"]).read_bytes())
    if module == "torch":
        made["kind"] = "CausalLM"
    (folder / "policy.json").write_text(json.dumps(made))
    sha256 = hashlib.sha256((folder / "policy.json").read_bytes()).hexdigest()
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in (module, "transformers"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('blocked', name={module!r})\n")
    env = {
        **env_of(kind, tmp_path),
        "POLICY_ARTIFACT_PATH": str(folder),
        "POLICY_ARTIFACT_SHA256": sha256,
        "SERVER_BLOCKED": str(blocked),
    }
    async with server(env, module="policy_server", ready=False) as (process, _, _):
        assert await process.wait() == keys.EXIT_DATA_INVALID
    assert (tmp_path / "termination-log").read_text() == (
        f"a {made['kind']} needs {module}, which this server's image lacks: set "
        "spec.server.image to one that has it"
    )
