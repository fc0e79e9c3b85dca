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
