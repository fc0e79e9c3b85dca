"""What a training needs of others: there, may come, will never come; each with its sentence."""

from datetime import timedelta

import pytest
from policy_api import reasons
from policy_api.base import rfc3339
from policy_api.v1alpha1.training_status import DependencyStatus, PolicyTrainingStatus
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.wakes import Relations
from policy_operator.training import dependencies
from policy_operator.training.types import Failed, Later, Ready, Waiting
from training_world import T0, Cluster, status_of, training

DIGEST = "0" * 64


def condition(kind, status, reason="Reason", message="as it is"):
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def other(name, status, policy="forge", version=None, *, base=None, made=T0, attempts=()):
    needs = {"base": {"training": {"name": base}}} if base else {}
    spec = training(policy=policy, **needs).spec.to_wire()
    return {
        "apiVersion": "policyops.dev/v1alpha1",
        "kind": "PolicyTraining",
        "metadata": {
            "namespace": "ml",
            "name": name,
            "uid": f"{name}-uid",
            "resourceVersion": "1",
            "creationTimestamp": rfc3339(made),
        },
        "spec": spec,
        "status": {
            "conditions": status,
            "attempts": [*attempts],
            **({"version": version} if version else {}),
        },
    }


def version(policy, number, *, training="rm", accepted="True", uid=None, made=T0, reason="Reason"):
    conditions = [condition("Accepted", accepted, reason, "loss is 3")] if accepted else []
    return {
        "kind": "PolicyVersion",
        "metadata": {
            "namespace": "ml",
            "name": f"{policy}-v{number}",
            "resourceVersion": "1",
            "labels": {"policyops.dev/training": training},
            "creationTimestamp": rfc3339(made),
        },
        "spec": {
            "policy": policy,
            "version": number,
            "artifact": {
                "uri": f"pvc://models/{policy}/{number}",
                "sha256": DIGEST,
                "secretRef": {"name": "bucket"},
            },
            "training": {"name": training, "uid": uid or f"{training}-uid"},
            "recipe": "SFT",
        },
        "status": {"conditions": conditions},
    }


def found(spec, *objects, decided=None, status=None):
    cache = Cache()
    for obj in objects:
        cache.put(obj["kind"], obj)
    return dependencies.find(cache, training(status, **spec), decided or {})


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
        (
            REWARD,
            "reward",
            [other("rm", [])],
            Waiting("waits for PolicyTraining rm, which is new", "rm-uid"),
        ),
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
            Waiting("waits for PolicyTraining rm, which has used up its budget", "rm-uid"),
        ),
        (
            REWARD,
            "reward",
            [other("rm", [condition("Succeeded", "False", "DeadlineExceeded", "300 s")])],
            Waiting("waits for PolicyTraining rm, which is over its deadline", "rm-uid"),
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


BASE = {"base": {"training": {"name": "rm"}}}
MINUTE = timedelta(seconds=60)
CIRCLE = "sft waits for rm, rm for x, x for sft: none of them can start; delete one and make it"


def seen(uid):
    """The status of a training that has seen its base, by its uid."""
    return PolicyTrainingStatus(dependencies=[DependencyStatus(role="base", training_uid=uid)])


def base(*objects, status=None):
    return found(BASE, *objects, status=status)["base"]


def circle(**last):
    return [other("rm", [], base="x"), other("x", [], base="sft", **last)]


def test_a_circle_is_named_at_once_and_refused_when_all_of_it_is_there_for_a_minute():
    needed = base(*circle(made=T0 + MINUTE))
    assert isinstance(needed, Later)
    assert needed.message.startswith(CIRCLE)
    early, late = (dependencies.settled({"base": needed}, T0 + n * MINUTE) for n in (1, 2))
    assert early["base"] == Waiting(needed.message, None, T0 + 2 * MINUTE)
    assert late["base"] == Failed(needed.message, reasons.CIRCULAR_DEPENDENCY)


@pytest.mark.parametrize(
    "last",
    [
        {"status": [condition("Succeeded", "True")]},
        {"status": [condition("Succeeded", "False")]},
        {"status": [], "attempts": [{"index": 0, "job": "x-0"}]},
    ],
    ids=["succeeded", "failed", "started"],
)
def test_what_has_started_closes_no_circle(last):
    needed = base(other("rm", [], base="x"), other("x", base="sft", **last))
    assert needed == Waiting("waits for PolicyTraining rm, which is new", "rm-uid")


def test_who_waits_for_a_circle_without_being_in_it_only_waits():
    assert isinstance(base(other("rm", [], base="x"), other("x", [], base="rm")), Waiting)


def test_every_role_may_close_a_circle_and_a_training_may_name_itself():
    judging = {"referenceModels": {"reward": {"training": {"name": "rm"}}}}
    needed = found(judging, other("rm", [], base="sft"))["reward"]
    assert needed.message.startswith("sft waits for rm, rm for sft: none")
    itself = found({"base": {"training": {"name": "sft"}}}, other("sft", [], base="sft"))["base"]
    assert itself.message.startswith("sft waits for itself: none")


def test_a_refused_circle_says_so_in_its_conditions_and_events():
    world = Cluster(training(**BASE), dependencies={"base": base(*circle())})
    decision = world.settle()
    assert decision.next_check_at == T0 + MINUTE
    assert status_of(world, "Running")[1:] == ("WaitingForBase", world.dependencies["base"].message)
    world.later(60).settle()
    assert status_of(world)[:2] == ("False", "CircularDependency")
    assert world.events[-1].type == "Warning"
    assert world.events[-1].message.startswith(CIRCLE)


def test_the_version_of_a_deleted_base_waits_a_minute_for_a_base_that_is_made_anew():
    needed = base(version("forge", 4))
    assert needed.message == (
        "PolicyTraining rm does not exist; unless it does by 00:01:00 UTC, PolicyVersion forge-v4 "
        "of an earlier one is taken"
    )
    anew = base(version("forge", 4), other("rm", []))
    assert anew == Waiting("waits for PolicyTraining rm, which is new", "rm-uid")
    world = Cluster(training(**BASE), dependencies={"base": needed})
    assert world.settle().next_check_at == T0 + MINUTE
    assert not world.jobs
    world.later(60).settle()
    (started,) = (e for e in world.events if e.reason == reasons.ATTEMPT_STARTED)
    assert started.message == (
        "Job sft-0 is made; its base is PolicyVersion forge-v4 (PolicyTraining rm, which is "
        "deleted, made it)"
    )
    told = world.training.status.dependencies
    assert told == [DependencyStatus(role="base", version="forge-v4")]


def test_a_base_that_was_waited_for_is_answered_for_by_its_own_version_alone_and_at_once():
    old = version("forge", 4, uid="an older life")
    assert isinstance(base(old), Later)
    gone = base(old, status=seen("rm-uid"))
    assert gone == Waiting(
        "waits for PolicyTraining rm, which was deleted before it had made a version", "rm-uid"
    )
    needed = base(old, version("forge", 3), status=seen("rm-uid"))
    assert (needed.version_name, needed.maker) == ("forge-v3", "rm-uid")


def test_the_newest_version_of_a_deleted_base_counts_if_others_may_start_from_it():
    versions = [version("forge", 9), version("forge", 2, made=T0 + MINUTE)]
    assert base(*versions).then.version_name == "forge-v2"
    unmet = version("forge", 3, made=T0 + 2 * MINUTE, accepted="False")
    assert base(*versions, unmet) == Waiting(
        "waits for PolicyTraining rm: it is deleted, and forge-v3 was not accepted"
    )
    kept = version("forge", 3, made=T0 + 2 * MINUTE, accepted="False", reason=reasons.KEPT)
    assert base(*versions, kept).then.version_name == "forge-v3"


def test_a_version_of_another_trainings_label_answers_for_nobody():
    stranger = version("forge", 4, training="else")
    stranger["metadata"]["labels"]["policyops.dev/training"] = "rm"
    assert base(stranger) == Waiting("waits for PolicyTraining rm, which does not exist yet")


def test_the_maker_is_noted_while_it_is_waited_for():
    living = base(other("rm", SUCCEEDED, version=2), version("forge", 2))
    world = Cluster(training(**BASE), dependencies={"base": base(other("rm", []))})
    world.settle()
    (noted,) = world.training.status.dependencies
    assert (noted.training_uid, noted.version) == ("rm-uid", None)
    world.dependencies = {"base": living}
    world.settle()
    (noted,) = world.training.status.dependencies
    assert (noted.training_uid, noted.version) == ("rm-uid", "forge-v2")
