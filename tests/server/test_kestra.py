"""The calls of the example's Kestra flow, made of its own file, against a server with a log.

Kestra is not installed: its templates (Pebble) are rendered by Jinja, which reads these alike.
"""

import json
from pathlib import Path

import jinja2
import pytest
import yaml
from server.test_http import sample
from server.test_records_http import WITH_TOKEN, kept, serving, tokens  # noqa: F401 - a fixture

FLOW = Path(__file__).parents[2] / "examples" / "flowlens" / "kestra" / "operations-decision.yaml"
SITUATION = {"snapshot_id": "snap-1", "anomalies": ["disk is full"], "analysis": {"cpu": 82}}
POINTED = {
    "fields": [
        {
            "name": "actions",
            "pointer": "/actions",
            "type": "Array",
            "items": [
                {"name": "type", "pointer": "/type", "type": "String"},
                {"name": "auto_approved", "pointer": "/auto_approved", "type": "Boolean"},
            ],
        }
    ]
}


def tasks(found, ids=None):
    """Return the flow's tasks by their ids, whatever they are in."""
    ids = {} if ids is None else ids
    for task in found:
        ids[task["id"]] = task
        for inner in ("tasks", "then", "else"):
            tasks(task.get(inner, ()), ids)
    return ids


@pytest.fixture
def flow():
    return yaml.safe_load(FLOW.read_text())


async def send(client, task, told):
    environment = jinja2.Environment(autoescape=False)
    environment.filters["toJson"] = json.dumps
    environment.globals["json"] = json.loads
    uri, body = (environment.from_string(task[name]).render(told) for name in ("uri", "body"))
    response = await client.post(uri, json=json.loads(body))
    assert (task["method"], response.status_code) == ("POST", 200), response.text
    return response


@pytest.mark.parametrize(
    ("said", "overrides", "label"),
    [("delete_old_data", 0, "Positive"), ("page", 1, "Negative")],
)
async def test_the_flow_asks_and_tells(tmp_path, tokens, flow, said, overrides, label):  # noqa: F811
    known = tasks(flow["tasks"])
    answer = {"actions": [{"type": "delete_old_data", "auto_approved": False}]}
    async with serving(tmp_path, tokens, schema=POINTED, answer=json.dumps(answer)) as (client, _):
        client.headers.update(WITH_TOKEN)
        told = {
            "vars": {"policy": ""},
            "execution": {"id": "e-1"},
            "inputs": {"situation": SITUATION},
        }
        decided = await send(client, known["decide"], told)
        (action,) = decided.json()["fields"]["actions"]
        assert action["auto_approved"] is False
        told["outputs"] = {
            "decide": {"body": decided.text},
            "ask": {"onResume": {"action": said}},
        }
        told["taskrun"] = {"value": json.dumps(action)}
        assert (await send(client, known["tell"], told)).json()["label"] == label
        await send(client, known["outcome"], told)
        found = await kept(client, decided.json()["decisionId"])
        assert (found["runId"], found["state"]) == ("e-1", SITUATION)
        assert found["outcome"]["followed"] is True
        assert found["feedback"][0]["tags"] == [action["id"]]
        assert await sample(client, "policyops_overrides_total", role="direct") == overrides
