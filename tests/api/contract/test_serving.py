"""serving.json between an operator and servers of other versions."""

import json
from typing import Any

import pytest
from policy_api.contract.serving import parse_serving

CONFIG: dict[str, Any] = {
    "mode": "Hybrid",
    "minConfidence": 0.7,
    "autoApprove": {"minConfidence": 0.9},
    "baseline": {
        "strategy": "Rule",
        "rule": {
            "cases": [
                {
                    "when": [{"feature": "task", "operator": "In", "values": ["api"]}],
                    "action": "backend",
                }
            ],
            "action": "frontend",
        },
    },
    "exploration": {"epsilon": 0.1},
    "timeoutMilliseconds": 300,
}


def test_it_is_read_as_it_was_written():
    config, strange = parse_serving(json.dumps(CONFIG).encode())
    assert (config.to_wire(), strange) == (CONFIG, None)
    assert parse_serving(b"{}")[0].to_wire() == {}


def test_a_newer_operators_fields_are_ignored_and_named():
    newer = {**CONFIG, "shadow": {"percent": 5}, "exploration": {"epsilon": 0.1, "decay": 2}}
    config, strange = parse_serving(json.dumps(newer).encode())
    assert (config.to_wire(), strange) == (CONFIG, "exploration.decay")


def test_a_baseline_that_only_a_newer_server_has_is_none():
    newer = {**CONFIG, "baseline": {"strategy": "Version", "version": 3}}
    config, strange = parse_serving(json.dumps(newer).encode())
    assert config.baseline is None
    assert config.min_confidence == 0.7
    assert strange == "baseline.strategy Version"


def test_a_route_that_only_a_newer_server_reads_is_left_out():
    known = {"path": "/retain", "to": "/v1/decisions"}
    newer = {"path": "/plans", "to": "/v1/plans"}
    content = json.dumps({**CONFIG, "routes": [known, newer, {**known, "path": "/x"}]}).encode()
    config, strange = parse_serving(content)
    assert [route.path for route in config.routes or ()] == ["/retain", "/x"]
    assert strange == "routes[1]"
    assert config.min_confidence == 0.7


def test_where_others_answer_is_found_by_name_and_version():
    peers = [{"deployment": "a", "url": "u1"}, {"deployment": "a", "version": 2, "url": "u2"}]
    config, _ = parse_serving(json.dumps({"peers": peers}).encode())
    assert (config.peer("a"), config.peer("a", 2), config.peer("a", 3)) == ("u1", "u2", None)
    assert config.peer("b") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "serving.json is no JSON"),
        (b"[]", "serving.json is no JSON object"),
        (b'{"schemaVersion": 2}', "use a server image as new as the operator"),
        (b'{"mode": "Oracle"}', "mode"),
        (b'{"minConfidence": "much"}', "minConfidence"),
    ],
)
def test_what_can_not_be_read_is_refused(content: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        parse_serving(content)
