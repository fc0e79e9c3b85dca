"""Whatever a trainer sends, its training's status can be written, and it can still be steered."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_api import reasons
from policy_api.contract.progress import parse_progress
from policy_api.keys import COND_SUCCEEDED
from policy_api.rules.conditions import get_condition
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import PolicyVersionSpec
from policy_operator.machinery.progress import read
from policy_operator.registry.types import VersionRecord
from policy_operator.training import build
from policy_operator.training.types import RecordVersion
from policyctl import rules
from training_world import T0, Cluster, ended, report, started, training

LARGE = 10**400
INT64 = 2**63
BUDGET = {"usdPerCPUHour": 36, "maxUSD": 9}  # a second costs a cent
CRITERIA = [{"metric": "eval_loss", "max": 2.5}, {"metric": "eval_loss_vs_version_1", "max": 0}]
CRITERIA += [{"metric": "eval_loss", "max": 0, "against": "version:1"}]


def whole_numbers(value):
    """Yield every whole number of a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from whole_numbers(inner)
    elif isinstance(value, int):
        yield value


def assert_taken(wire, model) -> None:
    """The API server takes it: it is JSON, within the schema, with unique names, in 64 bits."""
    text = json.dumps(wire, allow_nan=False)
    assert rules.broken(model.model_validate_json(text)) == []
    assert all(-INT64 <= n < INT64 for n in whole_numbers(wire))


def assert_status_taken(cluster: Cluster) -> None:
    assert_taken(cluster.training.status.to_wire(), PolicyTrainingStatus)


def steer(cluster: Cluster, **spec) -> None:
    """Let a person change the training."""
    changed = cluster.training.spec.model_copy(update=spec)
    cluster.training = replace(cluster.training, spec=changed)
    cluster.settle()


numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([LARGE, -LARGE, 1e300, 1.5, 0, -1, 2**53, 2**64])
    | st.booleans()
    | st.none()
)
names = st.sampled_from(
    ["loss", "eval_loss", "step", "current_step", "total_steps", "", "n" * 64, "a\nb", "ü" * 63]
) | st.text(max_size=70)
anything = st.recursive(
    numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
ours = anything | numbers  # numbers, more often than not


def metrics(value):
    """Lists of metrics, some twice, some that are none."""
    named = st.fixed_dictionaries({"name": names | anything, "value": value})
    whole = st.fixed_dictionaries(
        {"name": names, "value": value},
        optional={"low": ours, "high": ours, "confidence": ours, "step": ours},
    )
    many = st.integers(60, 90).map(lambda n: [{"name": f"m{i}", "value": 1} for i in range(n)])
    return st.lists(named | whole | anything, max_size=6) | many | anything


finals = st.fixed_dictionaries(
    {"outcome": st.sampled_from(["Completed", "Preempted", "TrainerFailed", "DataInvalid"])},
    optional={
        "message": anything,
        "field": anything,
        "step": ours,
        "maxSteps": ours,
        "resumedFromStep": ours,
        "metrics": metrics(numbers),
        "artifact": st.fixed_dictionaries(
            {
                "uri": st.sampled_from(["pvc://m/1", "nowhere", "s3://" + "x" * 1100]) | anything,
                "sha256": st.sampled_from(["0" * 64, "short"]) | anything,
                "version": st.integers(1, 9) | ours,
            }
        )
        | anything,
    },
)
bodies = st.fixed_dictionaries(
    {
        "trainerStatus": st.fixed_dictionaries(
            {},
            optional={
                "progressPercentage": ours,
                "estimatedRemainingSeconds": ours,
                "metrics": metrics(numbers.map(str)),
            },
        )
        | anything
    }
)


def finish(cluster: Cluster, told, code: int) -> None:
    """End the attempt with a report; what the API server would have to take is checked."""
    now = cluster.now
    cluster.end(0, ended(code=code, message=json.dumps(told), at=now), failed=code != 0)
    decision = cluster.decide()
    for action in decision.actions:
        if isinstance(action, RecordVersion):
            made = build.policy_version(cluster.training, action, decision.status.cost)
            assert_taken(made["spec"], PolicyVersionSpec)
            assert len(made["metadata"]["name"]) <= 63
            assert VersionRecord.parse(made).version == action.report.artifact.version
    cluster.step()
    assert_status_taken(cluster)


@settings(max_examples=200, deadline=None)
@given(told=finals, code=st.sampled_from([0, 70, 75]))
def test_any_end_of_a_trainer_can_be_written(told, code):
    finish(started(exitCriteria=CRITERIA, budget=BUDGET), told, code)


@settings(max_examples=200, deadline=None)
@given(body=bodies)
def test_any_progress_can_be_written_and_the_training_can_still_be_steered(body):
    cluster = started(exitCriteria=CRITERIA, budget=BUDGET, activeDeadlineSeconds=5000)
    try:
        cluster.progress = read(parse_progress(json.dumps(body).encode()), cluster.now)
    except ValueError:
        return  # refused with a sentence, which is as good
    cluster.later(6).settle()
    assert_status_taken(cluster)
    steer(cluster, suspend=True)
    assert cluster.jobs[0]["spec"]["suspend"]
    assert_status_taken(cluster)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(1000, reasons.BUDGET_EXCEEDED), (6000, reasons.DEADLINE_EXCEEDED)],
)
def test_no_progress_keeps_a_limit_from_working(seconds, reason):
    told = {"progressPercentage": 0, "estimatedRemainingSeconds": LARGE}
    budget = BUDGET if reason == reasons.BUDGET_EXCEEDED else None
    cluster = started(budget=budget, activeDeadlineSeconds=5000)
    body = json.dumps({"trainerStatus": told}).encode()
    cluster.progress = read(parse_progress(body), cluster.now)
    cluster.later(seconds).settle()
    assert_status_taken(cluster)
    assert cluster.jobs[0]["spec"]["suspend"]
    cluster.end(0, ended(code=75, message=report("Preempted"), at=cluster.now), failed=True)
    cluster.settle()
    end = get_condition(cluster.training.status.conditions, COND_SUCCEEDED)
    assert (end.status, end.reason) == ("False", reason)


def progress(**told):
    metrics = [{"name": k, "value": str(v)} for k, v in told.pop("metrics", {}).items()]
    body = {"trainerStatus": {**told, "metrics": metrics}}
    return read(parse_progress(json.dumps(body).encode()), T0)


def test_numbers_without_end_are_clamped():
    told = progress(
        estimatedRemainingSeconds=LARGE, metrics={"current_step": 1e300, "total_steps": 2**60}
    )
    assert told.remaining_seconds == 2**31 - 1
    assert (told.step, told.max_steps) == (2**53 - 1, 2**53 - 1)


def test_the_steps_take_no_metrics_place():
    many = {"current_step": 3, "total_steps": 9, **{f"m{i}": i for i in range(70)}}
    told = progress(metrics=many)
    assert [m.name for m in told.metrics] == [f"m{i}" for i in range(64)]


def metric(name, value, **more):
    return {"name": name, "value": value, **more}


def test_of_too_many_metrics_those_that_are_judged_are_kept():
    many = [*(metric(f"m{i}", i) for i in range(64)), metric("eval_loss", 2.0)]
    cluster = started()
    artifact = {"uri": "pvc://m/1", "sha256": "0" * 64, "version": 1}
    finish(cluster, {"outcome": "Completed", "metrics": many, "artifact": artifact}, 0)
    status = cluster.training.status
    assert status.state == "Succeeded"
    assert len(status.metrics) == 64
    assert "eval_loss" in {m.name for m in status.metrics}


def test_of_a_metric_told_twice_the_last_counts():
    told = [metric("eval_loss", 9), metric("eval_loss", 2.0), metric("n" * 64, 1)]
    told += [metric("accuracy", 0.5, low=LARGE, confidence=7, step=-1), "no metric"]
    cluster = started()
    artifact = {"uri": "pvc://m/1", "sha256": "0" * 64, "version": 1}
    finish(cluster, {"outcome": "Completed", "metrics": told, "artifact": artifact}, 0)
    found = {m.name: m for m in cluster.training.status.metrics}
    assert {name: m.value for name, m in found.items()} == {"eval_loss": 2.0, "accuracy": 0.5}
    accuracy = found["accuracy"]
    assert (accuracy.low, accuracy.confidence, accuracy.step) == (None, None, None)
    assert cluster.training.status.state == "Succeeded"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"uri": "models"}, "artifact.uri: String should match pattern"),
        ({"sha256": "abc"}, "artifact.sha256: String should match pattern"),
        ({"version": 10**9}, "artifact.version: Input should be less than or equal to 999999999"),
    ],
)
def test_an_artifact_that_cannot_be_recorded_is_none_and_says_why(change, sentence):
    artifact = {"uri": "pvc://m/1", "sha256": "0" * 64, "version": 1, **change}
    cluster = started()
    finish(cluster, {"outcome": "Completed", "metrics": [], "artifact": artifact}, 0)
    (attempt,) = cluster.training.status.attempts
    assert attempt.reason == "TrainerFailed"
    assert "reported no artifact (its termination message): " + sentence in attempt.message


def test_two_criteria_on_one_number_give_one_verdict():
    cluster = started(exitCriteria=CRITERIA)
    told = [metric("eval_loss", 2.0), metric("eval_loss_vs_version_1", 0.5)]
    artifact = {"uri": "pvc://m/1", "sha256": "0" * 64, "version": 1}
    finish(cluster, {"outcome": "Completed", "metrics": told, "artifact": artifact}, 0)
    assert [(v.metric, v.met) for v in cluster.training.status.exit_criteria] == [
        ("eval_loss", True),
        ("eval_loss_vs_version_1", False),
    ]


def test_a_training_is_one():
    """The world's training itself is what the API server takes."""
    assert rules.broken(training(exitCriteria=CRITERIA).spec) == []
