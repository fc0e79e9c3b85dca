"""What another version of our programs wrote is read, and what it added is not lost."""

import copy
from typing import Any

import pytest
from policy_api import skew
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import PolicyVersionStatus
from pydantic import ValidationError

SPEC: dict[str, Any] = {
    "policy": "forge",
    "recipe": "SFT",
    "sft": {"epochs": 2},
    "base": {"scratch": {}},
    "data": [{"name": "train", "uri": "pvc://data/train.jsonl"}],
    "budget": {"maxUSD": 3},
    "compute": {"nodes": 2},
    "artifact": {"uri": "pvc://models"},
    "suspend": True,
    "activeDeadlineSeconds": 60,
}


def changed(**parts: Any) -> dict[str, Any]:
    """Return the spec with fields merged into it, two levels deep."""
    made = copy.deepcopy(SPEC)
    for key, value in parts.items():
        if isinstance(made.get(key), dict) and isinstance(value, dict):
            made[key].update(value)
        else:
            made[key] = value
    return made


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (SPEC, None),
        (changed(warmup={"steps": 3}), "spec.warmup"),
        (changed(sft={"neftune": 5}), "spec.sft.neftune"),
        (changed(base={"scratch": {"rope": True}}), "spec.base.scratch.rope"),
        (
            changed(data=[*SPEC["data"], {"name": "b", "uri": "pvc://x/y", "weight": 2}]),
            "spec.data[1].weight",
        ),
        (changed(recipe="KTO"), "spec.recipe 'KTO'"),
        (changed(recipe="KTO", kto={"beta": 1}), "spec.kto"),
        (changed(data=[{"name": "train", "uri": "gs://x/y"}]), "spec.data[0].uri 'gs://x/y'"),
        (changed(onUnmet="Ask"), "spec.onUnmet 'Ask'"),
        (changed(maxRetries=1000), "spec.maxRetries 1000"),
        (changed(compute={"resources": {"limits": {"any.thing/here": 1}}}), None),
    ],
)
def test_what_a_newer_spec_has_is_named_and_the_rest_is_read(spec: Any, path: str | None):
    read, unknown = skew.examine(PolicyTrainingSpec, spec, "spec")
    assert unknown == path
    assert read == skew.read(PolicyTrainingSpec, spec)
    assert read.policy == "forge"
    assert str(read.recipe) == spec["recipe"]
    assert (read.suspend, read.active_deadline_seconds) == (True, 60)
    assert read.budget is not None
    assert (read.budget.max_usd, read.compute.nodes) == (3, 2)
    assert read.artifact.uri == "pvc://models"
    assert read.data[0].name == "train"


def test_what_exceeds_our_limits_keeps_its_meaning():
    spec = changed(maxRetries=1000, data=[{"name": "train", "uri": "gs://x/y"}] * 20, tag="-")
    read, unknown = skew.examine(PolicyTrainingSpec, spec, "spec", bounds=False)
    assert unknown is None
    assert (read.max_retries, len(read.data), read.tag) == (1000, 20, "-")
    assert read.data[0].uri == "gs://x/y"
    worded = {**spec, "onUnmet": "Ask"}
    read, unknown = skew.examine(PolicyTrainingSpec, worded, "spec", bounds=False)
    assert unknown == "spec.onUnmet 'Ask'"
    assert read.max_retries == 1000


def test_what_a_person_types_is_still_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        PolicyTrainingSpec.model_validate(changed(sft={"neftune": 5}))


def test_a_new_preset_of_an_alert_leaves_the_others():
    spec = {
        "policy": "forge",
        "target": {"version": 1},
        "traffic": {"parentRefs": [{"name": "public"}]},
        "alerts": [
            {"name": "Full", "preset": "Saturation", "max": 0.9},
            {"name": "Slow", "preset": "Latency", "max": 2},
        ],
    }
    read, unknown = skew.examine(PolicyDeploymentSpec, spec, "spec")
    assert unknown == "spec.alerts[0].preset 'Saturation'"
    assert [(a.name, a.preset) for a in read.alerts] == [("Full", None), ("Slow", "Latency")]


AT = "2026-01-01T00:00:00Z"
ATTEMPT = {"index": 0, "job": "forge-0", "startedAt": AT}
CONDITION = {
    "type": "Running",
    "status": "True",
    "lastTransitionTime": AT,
    "reason": "Training",
    "message": "",
}


def test_fields_of_a_newer_operator_survive_our_status_write():
    old = {
        "crashes": 2,
        "conditions": [{**CONDITION, "severity": "Info"}],
        "progress": {"step": 3, "tokens": 7},
        "attempts": [{**ATTEMPT, "node": "a"}, {**ATTEMPT, "index": 1, "node": "b"}],
        "cost": {"gpuSeconds": 0, "cpuSeconds": 9, "runSeconds": 9, "kWh": 0.1},
    }
    status = skew.read(PolicyTrainingStatus, old)
    assert status.progress is not None
    new = status.model_copy(
        update={
            "state": "Training",
            "progress": status.progress.model_copy(update={"step": 4}),
            "attempts": [a.model_copy(update={"reason": "Preempted"}) for a in status.attempts[1:]],
            "cost": None,
        }
    )
    written = skew.carried(old, new)
    assert written["state"] == "Training"
    assert written["crashes"] == 2
    assert written["conditions"] == [{**CONDITION, "severity": "Info"}]
    assert written["progress"] == {"step": 4, "tokens": 7}
    assert written["attempts"] == [{**ATTEMPT, "index": 1, "reason": "Preempted", "node": "b"}]
    assert "cost" not in written, "what is dropped is dropped whole"
    assert skew.carried(written, new) == written, "and it settles"


def test_items_without_a_key_are_told_apart_by_what_we_know():
    line = {"at": AT, "version": 1, "event": "Step", "message": "v1 takes 10 %"}
    old = {
        "history": [{**line, "by": "alice"}, {**line, "version": 2, "by": "bob"}],
        "stable": {"version": 1, "weight": 90, "since": AT, "region": "eu"},
        "candidate": {"version": 2, "weight": 10, "stepIndex": 0, "startedAt": AT, "pace": 3},
    }
    status = skew.read(PolicyDeploymentStatus, old)
    history = [*status.history[1:], status.history[1].model_copy(update={"event": "Promoted"})]
    new = status.model_copy(update={"history": history, "candidate": None})
    written = skew.carried(old, new)
    assert [h.get("by") for h in written["history"]] == ["bob", None]
    assert written["stable"]["region"] == "eu"
    assert "candidate" not in written


def test_the_versions_record_keeps_them_too():
    serving = {"deployment": "a", "role": "stable", "weight": 100, "since": AT}
    old = {"serving": [serving, {**serving, "deployment": "b"}], "retired": True}
    status = skew.read(PolicyVersionStatus, old)
    new = status.model_copy(
        update={"serving": [s for s in status.serving if s.deployment == "b"]},
    )
    assert skew.carried(old, new) == {
        "conditions": [],
        "serving": [{**serving, "deployment": "b"}],
        "retired": True,
    }


def test_a_word_of_a_newer_operator_is_written_back_as_it_was_read():
    alert = {"name": "Slow", "state": "Pending", "since": AT, "version": 2}
    status = skew.read(PolicyDeploymentStatus, {"alerts": [alert], "url": "http://x"})
    assert status.to_wire()["alerts"] == [alert]
    assert status.url == "http://x"


def test_without_anything_new_a_status_is_written_as_it_is():
    status = PolicyTrainingStatus(state="Training")
    assert skew.carried(None, status) == skew.carried({"state": "X"}, status) == status.to_wire()
