"""How the world is read: endpoints, pods, the route's status, the address."""

from typing import Any

import pytest
from policy_api.base import ObjectMeta
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_operator.machinery.cache import Obj
from policy_operator.rollout import observe, routes
from policy_operator.rollout.target import resolve
from policy_operator.rollout.types import Backend, PolicyDeployment
from rollout_world import NAME, NS, World, spec


def make(**update: Any) -> PolicyDeployment:
    return PolicyDeployment(
        ObjectMeta(name=NAME, namespace=NS, uid="u1", generation=1),
        PolicyDeploymentSpec.model_validate(spec(**update)),
        PolicyDeploymentStatus(),
    )


def _ended(state="lastState", message="", code=65, **more):
    ended = {"exitCode": code, **({"message": message} if message else {})}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}
    container = {"name": "server", "ready": False, state: {"terminated": ended}, **more}
    if state == "lastState":
        container.setdefault("state", {"waiting": waiting})
    return {"status": {"containerStatuses": [container]}}


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_a_server_that_ends_is_quoted_instead_of_its_back_off(state):
    pod = _ended(state, "the model can't be loaded: no memory")
    assert observe.trouble([pod], None) == "the server ended: the model can't be loaded: no memory"


def test_of_another_image_the_end_of_its_log_is_told():
    pod = _ended(message="Traceback (most recent call last):\n  File x\nValueError: no GPU\n")
    assert observe.trouble([pod], None) == "the server ended: ValueError: no GPU"


def test_a_server_that_says_nothing_or_ended_well_is_in_back_off():
    silent = "CrashLoopBackOff: back-off 20s restarting failed container"
    assert observe.trouble([_ended()], None) == silent
    assert observe.trouble([_ended(message="bye", code=0)], None) == silent


def test_what_an_earlier_server_said_is_no_trouble_once_it_is_ready():
    pod = _ended(message="no", state="lastState", ready=True)
    pod["status"]["containerStatuses"][0]["state"] = {"running": {}}
    assert observe.trouble([pod], None) == ""


def test_ready_addresses_are_counted_once():
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        {
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
                {"addresses": ["10.0.0.2"]},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
            ]
        },
        {"endpoints": None},
    ]
    assert observe.endpoints(slices) == 2


@pytest.mark.parametrize(
    ("generation", "status", "count"),
    [
        (1, {}, 0),
        (2, {"observedGeneration": 1, "availableReplicas": 2}, 0),
        (
            2,
            {
                "observedGeneration": 2,
                "replicas": 2,
                "updatedReplicas": 2,
                "availableReplicas": 2,
            },
            2,
        ),
        (
            2,
            {
                "observedGeneration": 2,
                "replicas": 3,
                "updatedReplicas": 1,
                "availableReplicas": 2,
            },
            0,
        ),
    ],
    ids=["new", "not looked at", "settled", "being replaced"],
)
def test_pods_count_once_the_newest_template_is_out(
    generation: int, status: dict[str, Any], count: int
):
    assert observe.available({"metadata": {"generation": generation}, "status": status}) == count


def waiting(reason: str) -> Obj:
    state = {"waiting": {"reason": reason, "message": "no such image"}}
    return {"status": {"containerStatuses": [{"state": state}]}}


def test_why_a_pod_is_not_ready():
    assert observe.trouble([waiting("ContainerCreating")], None) == ""
    assert observe.trouble([waiting("ImagePullBackOff")], None) == "ImagePullBackOff: no such image"
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod = {"status": {"conditions": [{**unscheduled, "message": "0/1 nodes"}]}}
    assert observe.trouble([pod], None) == "Unschedulable: 0/1 nodes"
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no"}
    assert observe.trouble([], {"status": {"conditions": [failed]}}) == "FailedCreate: no"


def route(generation: int, *parents: dict[str, Any]) -> Obj:
    made = routes.build(make(), (Backend(1, 100, "stable"),))
    made["metadata"] = {**made["metadata"], "generation": generation}
    return {**made, "status": {"parents": list(parents)}}


def parent(
    accepted: str = "True", resolved: str = "True", generation: int = 2, **ref: str
) -> dict[str, Any]:
    conditions = [
        {
            "type": kind,
            "status": word,
            "reason": "Because",
            "message": "of it",
            "observedGeneration": generation,
        }
        for kind, word in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    return {
        "parentRef": {"name": "public", "namespace": "gateways", **ref},
        "controllerName": "projectcontour.io/gateway-controller",
        "conditions": conditions,
    }


@pytest.mark.parametrize(
    ("parents", "accepted", "programmed", "trouble"),
    [
        ([], False, False, "no Gateway controller has looked at it"),
        ([parent()], True, True, ""),
        ([parent(generation=1)], True, False, ""),
        ([parent(accepted="False")], False, False, "Because: of it"),
        ([parent(resolved="False")], False, False, "Because: of it"),
        ([parent(name="other")], False, False, ""),
        ([parent(sectionName="http")], False, False, ""),
        ([parent(name="other", accepted="False"), parent()], True, True, ""),
    ],
)
def test_the_route_is_taken_up_when_its_parents_controller_says_so(
    parents: list[dict[str, Any]], accepted: bool, programmed: bool, trouble: str
):
    found = observe.route(route(2, *parents), make())
    assert (found.accepted, found.programmed, found.trouble) == (accepted, programmed, trouble)


def test_every_parent_must_take_it_up():
    pdep = make(
        traffic={
            "parentRefs": [
                {"name": "public", "namespace": "gateways"},
                {"name": "inner"},
            ]
        }
    )
    assert not observe.route(route(2, parent()), pdep).programmed
    both = route(2, parent(), parent(name="inner", namespace=NS))
    assert observe.route(both, pdep).programmed


def gateway(*listeners: tuple[str, str, int], address: str | None = None) -> Obj:
    return {
        "spec": {"listeners": [{"name": n, "protocol": p, "port": o} for n, p, o in listeners]},
        "status": {"addresses": [{"value": address}] if address else []},
    }


@pytest.mark.parametrize(
    ("traffic", "found", "url"),
    [
        ({}, None, None),
        ({}, gateway(("http", "HTTP", 80)), "http://a.example.com/"),
        ({}, gateway(("https", "HTTPS", 443)), "https://a.example.com/"),
        ({"path": "/x"}, gateway(("http", "HTTP", 8080)), "http://a.example.com:8080/x"),
        ({"hostnames": []}, gateway(("http", "HTTP", 80), address="10.0.0.9"), "http://10.0.0.9/"),
        ({"hostnames": []}, gateway(("http", "HTTP", 80)), None),
        ({"hostnames": ["*.example.com"]}, gateway(("http", "HTTP", 80)), None),
        (
            {"parentRefs": [{"name": "public", "sectionName": "tls"}]},
            gateway(("http", "HTTP", 80), ("tls", "HTTPS", 8443)),
            "https://a.example.com:8443/",
        ),
    ],
)
def test_the_address(traffic: dict[str, Any], found: Obj | None, url: str | None):
    base = {"parentRefs": [{"name": "public"}], "hostnames": ["a.example.com"]}
    assert observe.url(make(traffic={**base, **traffic}), found) == url


CONDITION = {
    "type": "Succeeded",
    "reason": "Completed",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("training", "version", "refused"),
    [
        (None, 2, None),
        ({"policy": "other"}, None, "TargetInvalid"),
        ({"policy": "review-forge"}, None, "WaitingForTraining"),
        ({"policy": "review-forge", "succeeded": "Unknown"}, None, "WaitingForTraining"),
        ({"policy": "review-forge", "succeeded": "False"}, None, "TargetNotAccepted"),
        ({"policy": "review-forge", "succeeded": "True", "version": 3}, 3, None),
    ],
    ids=["gone, but its version is there", "other policy", "new", "runs", "failed", "succeeded"],
)
def test_a_training_as_target(
    training: dict[str, Any] | None, version: int | None, refused: str | None
):
    world = World()
    if training is not None:
        status: dict[str, Any] = {}
        if word := training.get("succeeded"):
            status["conditions"] = [{**CONDITION, "status": word}]
        if number := training.get("version"):
            status["version"] = number
        world.create(
            {
                "kind": "PolicyTraining",
                "metadata": {"name": "train-2", "namespace": NS},
                "spec": {"policy": training["policy"]},
                "status": status,
            }
        )
    world.edit(target={"training": {"name": "train-2"}})
    observed = observe.read(
        world.cache,
        world.pdep,
        monitoring=world.monitoring,
        rules_kind="ConfigMap",
        server_image="i",
    )
    found = resolve(world.pdep, observed, (), None)
    assert (found.version, found.refused) == (version, refused)


def test_a_training_that_nobody_knows():
    world = World()
    world.edit(target={"training": {"name": "nobody"}})
    world.run()
    assert world.status["state"] == "TargetNotFound"
    assert world.split() == {}
