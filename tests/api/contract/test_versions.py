"""What travels between programs of different versions: read if it can be, else one sentence."""

import json
from typing import Any

import pytest
from policy_api.contract.artifact import parse_manifest
from policy_api.contract.report import Outcome, decode
from policy_api.contract.run import parse_run

RUN: dict[str, Any] = {
    "recipe": "SFT",
    "sft": {"epochs": 2},
    "training": {"namespace": "ml", "name": "sft", "uid": "u"},
    "attempt": 0,
    "policy": "forge",
    "minVersion": 1,
    "data": [{"name": "train", "uri": "pvc://d/t.jsonl", "path": "/d/t.jsonl"}],
    "store": {"uri": "pvc://m", "path": "/m"},
}
MANIFEST: dict[str, Any] = {
    "policy": "forge",
    "version": 1,
    "recipe": "SFT",
    "seed": 1,
    "createdAt": "2026-01-01T00:00:00Z",
    "training": {},
    "config": {},
    "configSha256": "0" * 64,
    "data": [],
    "metrics": [],
    "exitCriteria": [],
    "packages": {},
    "files": [{"path": "model.safetensors", "sha256": "0" * 64, "bytes": 1, "shard": 1}],
}


def test_a_newer_operators_fields_are_ignored_and_named():
    plain, ignored = parse_run(json.dumps(RUN).encode())
    assert ignored is None
    newer = {**RUN, "sft": {**RUN["sft"], "neftune": 5}, "telemetry": {}}
    run, ignored = parse_run(json.dumps(newer).encode())
    assert run == plain
    assert ignored == "sft.neftune"


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"schemaVersion": 2}', b'"text"', b"\xff"])
def test_what_is_no_run_of_this_version_is_one_sentence(content: bytes):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is what counts
        parse_run(content)
    assert "\n" not in str(error.value)


def test_a_later_version_says_what_to_change():
    with pytest.raises(
        ValueError, match=r"schemaVersion 2, this reads 1: set spec\.trainer\.image"
    ):
        parse_run(json.dumps({**RUN, "schemaVersion": 2}).encode())
    with pytest.raises(ValueError, match=r"policy\.json has schemaVersion 3, this reads 1: use an"):
        parse_manifest(json.dumps({**MANIFEST, "schemaVersion": 3}).encode())


def test_a_newer_trainers_manifest_is_read():
    made = parse_manifest(json.dumps({**MANIFEST, "carbon": {"kg": 1}}).encode())
    assert made.files[0].path == "model.safetensors"


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ({"outcome": "Completed", "tokens": 5}, Outcome.COMPLETED),
        ({"outcome": "Completed", "metrics": [{"name": "a", "value": 1, "n": 3}]}, "Completed"),
        ({"outcome": "QuotaSpent", "message": "no tokens left"}, Outcome.TRAINER_FAILED),
        ({"outcome": "Completed", "schemaVersion": 2}, None),
        ({"message": "no outcome"}, None),
        ([1], None),
    ],
)
def test_a_newer_trainers_report_is_read(message: Any, outcome: Outcome | None):
    report = decode(json.dumps(message))
    assert (report and report.outcome) == outcome
    if outcome is Outcome.TRAINER_FAILED and report is not None:
        assert report.message == "no tokens left"


def test_a_message_of_brackets_is_no_report():
    assert decode("[" * 4096) is None
