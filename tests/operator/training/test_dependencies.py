"""What a training needs of others: there, may come, will never come; each with its sentence."""

import pytest
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.wakes import Relations
from policy_operator.training import dependencies
from policy_operator.training.types import Failed, Ready, Waiting
from training_world import training

DIGEST = "0" * 64


def condition(kind, status, reason="Reason", message="as it is"):
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def other(name, status, policy="forge", version=None):
    made = training(policy=policy)
    return {
        "apiVersion": "policyops.dev/v1alpha1",
        "kind": "PolicyTraining",
        "metadata": {"namespace": "ml", "name": name, "uid": f"{name}-uid", "resourceVersion": "1"},
        "spec": made.spec.to_wire(),
        "status": {"conditions": status, **({"version": version} if version else {})},
    }


def version(policy, number, *, training="rm", accepted="True"):
    conditions = [condition("Accepted", accepted, message="loss is 3")] if accepted else []
    return {
        "kind": "PolicyVersion",
        "metadata": {"namespace": "ml", "name": f"{policy}-v{number}", "resourceVersion": "1"},
        "spec": {
            "policy": policy,
            "version": number,
            "artifact": {
                "uri": f"pvc://models/{policy}/{number}",
                "sha256": DIGEST,
                "secretRef": {"name": "bucket"},
            },
            "training": {"name": training, "uid": f"{training}-uid"},
            "recipe": "SFT",
        },
        "status": {"conditions": conditions},
    }


def found(spec, *objects, decided=None):
    cache = Cache()
    for obj in objects:
        cache.put(obj["kind"], obj)
    return dependencies.find(cache, training(**spec), decided or {})


REWARD = {"referenceModels": {"reward": {"training": {"name": "rm"}}}}
THIRD = {"base": {"version": 3}}
JUDGED = {
    "judge": {
        "training": {"name": "jury"},
        "criteria": [{"name": "clear", "description": "It is easy to read."}],
    }
}
SUCCEEDED = [condition("Succeeded", "True")]


@pytest.mark.parametrize(
    ("spec", "role", "objects", "wanted"),
    [
        (REWARD, "reward", [], Waiting("waits for PolicyTraining rm, which does not exist yet")),
        (REWARD, "reward", [other("rm", [])], Waiting("waits for PolicyTraining rm, which is new")),
        (
            REWARD,
            "reward",
            [other("rm", [condition("Succeeded", "False", "OutOfMemory", "too big")])],
            Failed("PolicyTraining rm, its reward model, failed (OutOfMemory: too big)"),
        ),
        (
            REWARD,
            "reward",
            [other("rm", [condition("Succeeded", "False", "BudgetExceeded", "5 USD")])],
            Waiting("waits for PolicyTraining rm, which has used up its budget"),
        ),
        (
            REWARD,
            "reward",
            [other("rm", [condition("Succeeded", "False", "DeadlineExceeded", "300 s")])],
            Waiting("waits for PolicyTraining rm, which is over its deadline"),
        ),
        (
            REWARD,
            "reward",
            [other("rm", SUCCEEDED, version=2)],
            Failed(
                "PolicyTraining rm, its reward model, succeeded, but its PolicyVersion forge-v2 "
                "is gone"
            ),
        ),
        (
            JUDGED,
            "judge",
            [],
            Waiting("waits for PolicyTraining jury, which does not exist yet"),
        ),
        (
            JUDGED,
            "judge",
            [other("jury", [condition("Succeeded", "False", "OutOfMemory", "too big")])],
            Failed("PolicyTraining jury, its judge model, failed (OutOfMemory: too big)"),
        ),
        (THIRD, "base", [], Waiting("waits for PolicyVersion forge-v3, which does not exist")),
        (
            THIRD,
            "base",
            [version("forge", 3, accepted=None)],
            Waiting("waits for PolicyVersion forge-v3, which is not judged yet"),
        ),
        (
            THIRD,
            "base",
            [version("forge", 3, accepted="False")],
            Failed("PolicyVersion forge-v3, its base, was not accepted: loss is 3"),
        ),
        (
            {"exitCriteria": [{"metric": "loss", "max": 0, "against": "version:2"}]},
            "version:2",
            [version("forge", 2, accepted="False")],
            Failed("PolicyVersion forge-v2, version:2, was not accepted: loss is 3"),
        ),
    ],
)
def test_each_state_has_its_sentence(spec, role, objects, wanted):
    assert found(spec, *objects) == {role: wanted}


def test_a_version_that_is_there_says_what_a_pod_needs():
    ready = found(REWARD, other("rm", SUCCEEDED, version=2), version("forge", 2))["reward"]
    assert isinstance(ready, Ready)
    assert (ready.version_name, ready.secret) == ("forge-v2", "bucket")
    assert ready.artifact.path == "/var/lib/policyops/pvc/models/forge/2"
    assert ready.artifact.sha256 == DIGEST


def test_a_later_attempt_takes_the_version_of_the_first_even_when_its_training_is_gone():
    decided = {"reward": "forge-v2"}
    assert isinstance(found(REWARD, version("forge", 2), decided=decided)["reward"], Ready)
    gone = found(REWARD, decided=decided)["reward"]
    assert gone == Failed("PolicyVersion forge-v2, its reward model, was deleted")


def test_a_training_needs_nothing_of_others_unless_it_says_so():
    assert found({}) == {}


def test_a_training_is_woken_by_the_versions_and_trainings_that_it_names():
    relations = Relations()
    spec = {**REWARD, **THIRD, **JUDGED, "exitCriteria": [{"metric": "loss", "max": 0}]}
    waiting = other("waits", [])
    waiting["spec"] = training(**spec).spec.to_wire()
    relations.learn("PolicyTraining", waiting, deleted=False)
    woken = relations.concerned("PolicyVersion", version("forge", 3))
    assert "waits" in {key.name for key in woken}
    for name in ("rm", "jury"):
        woken = relations.concerned("PolicyTraining", other(name, []))
        assert {key.name for key in woken} == {name, "waits"}
