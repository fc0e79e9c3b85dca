"""The examples' own paths take the bodies that those systems send, as they stand."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from policy_api.v1alpha1.routes import Route
from policy_server.http import composition, mapping
from policyctl import manifests
from server.scripted import server
from server.test_kinds import env_of
from server.told import Told

EXAMPLES = Path(__file__).parents[2] / "examples"
CUSTOMER = {"tenure": 3, "contract": "monthly", "support_calls": 2, "autopay": "no"}


def routes(example: str, policy: str) -> dict[str, Route]:
    spec = manifests.deployment(str(EXAMPLES / example / "serving"), policy)
    return {route.path: route for route in spec.server.routes or ()}


def call(route: Route, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    made = mapping.call_of(route, body, {})
    return mapping.path_of(route, made), made


def test_an_agents_feedback_is_taken_as_it_stands():
    feedback = routes("plan-preference", "plan-preference")["/feedback"]
    sent = {"run_id": "your-run-id", "feedback": "Good plan", "tags": "pos"}
    wanted = {"runId": "your-run-id", "text": "Good plan", "tags": "pos"}
    assert call(feedback, sent) == ("/v1/feedback", wanted)


def test_what_became_of_a_customer_is_an_outcome_of_its_decision():
    retained = routes("retention", "retention-offers")["/retained"]
    sent = {"decision": "d-1", "kept": True, "revenue": 49.9}
    wanted = ("/v1/decisions/d-1/outcome", {"success": True, "reward": 49.9})
    assert call(retained, sent) == wanted


@pytest.mark.parametrize(("action", "asks"), [("no contact", False), ("offer 0.1", True)])
def test_a_message_is_asked_for_as_it_was_trained(action: str, asks: bool):
    retain = routes("retention", "retention-offers")["/retain"]
    path, made = call(retain, {"customer": CUSTOMER, "reason": "price", "case": "c-1"})
    assert (path, made["state"], made["runId"]) == ("/v1/decisions", CUSTOMER, "c-1")
    assert retain.then is not None
    assert composition.follows(retain.then, {"action": action}) is asks
    if asks:
        prompt = composition.prompt_of(retain.then, made, {"action": action})
        assert prompt == "Write to a customer of 3 months. price, 10 %."


async def test_a_beam_search_asks_for_its_candidates(tmp_path):
    made = [route.to_wire() for route in routes("plan-preference", "plan-preference").values()]
    told = Told(tmp_path)
    told.write(routes=made)
    env = {**env_of("PlanPreference", tmp_path), "POLICY_SERVING_PATH": str(told.path)}
    async with (
        server(env, module="policy_server") as (_, url, _log),
        httpx.AsyncClient(base_url=url) as client,
    ):
        plans = ["a vague plan", "a tested plan"]
        body = (await client.post("/score", json={"run_id": "r", "plans": plans})).json()
        assert set(body) == {"scores", "best"}
        assert body["best"] == body["scores"][0]["index"] == 1
        none = await client.post("/score", json={"run_id": "r"})
        assert none.json()["error"]["message"] == "plans is missing: set it"
