"""Somebody else's objects with our children's names: never written, told, and waited for."""

import copy
from typing import Any

import pytest
from policy_operator.rollout.conflicts import LOOK_AGAIN
from rollout_world import NAME, NS, World

SERVICE: dict[str, Any] = {
    "kind": "Service",
    "metadata": {
        "name": f"{NAME}-v3",
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "web",
                "uid": "w",
                "controller": True,
            }
        ],
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
    },
    "spec": {"ports": [{"port": 1}]},
}
ELSEWHERE = {
    "parentRefs": [{"name": "public", "namespace": "gateways"}],
    "hostnames": ["b.example.com"],
}
LABELS = {
    "app.kubernetes.io/managed-by": "policy-operator",
    "policyops.dev/deployment": NAME,
    "policyops.dev/version": "3",
}


def foreign(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "namespace": NS}, "spec": {"theirs": True}}


@pytest.fixture
def serving() -> World:
    """A world where version 1 serves."""
    world = World()
    world.serve(1)
    return world


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("HTTPRoute", NAME),
        ("Deployment", f"{NAME}-v1"),
        ("Service", f"{NAME}-v1"),
        ("ConfigMap", f"{NAME}-rules"),
        ("ConfigMap", f"{NAME}-serving"),
    ],
)
def test_a_taken_name_is_told_left_alone_and_used_once_it_is_free(
    kind: str, name: str, labelled: bool
):
    world = World()
    theirs = foreign(kind, name)
    if labelled:
        theirs["metadata"]["labels"] = {**LABELS, "policyops.dev/version": "1"}
    before = world.create(theirs) if labelled else world.hide(theirs)
    kept = copy.deepcopy(before)
    for _ in range(3):
        world.settle()
        world.reconcile()
        assert world.last_check is not None
        assert world.last_check <= world.now + LOOK_AGAIN
        world.advance(100)  # far past the progress deadline
    assert world.status["state"] == "NameConflict"
    message = world.condition("Progressing")["message"]
    assert message.startswith(f"{kind} {name} exists and has no owner")
    assert message.endswith("delete or rename it, or give this PolicyDeployment another name")
    assert [e.reason for e in world.events].count("NameConflict") == 1
    assert before == kept
    if labelled:
        assert world.obj(kind, name) == kept
        world.cache.remove(kind, world.obj(kind, name))
    else:
        del world.hidden[kind, name]
    world.run()
    assert world.status["state"] == "Promoted"
    assert world.split() == {1: 100}
    assert world.obj(kind, name)["metadata"]["ownerReferences"][0]["kind"] == "PolicyDeployment"


def test_one_versions_taken_name_stops_that_version_alone(serving: World):
    world = serving
    world.hide(SERVICE)
    world.weights.clear()
    world.target(3)
    for _ in range(5):
        world.settle()
        world.reconcile()
        world.advance(100)
    message = world.condition("Progressing")["message"]
    assert message.startswith(
        f"Service {NAME}-v3 exists and belongs to Deployment web, managed by Helm: delete"
    )
    assert world.condition("Ready")["status"] == "True"
    assert world.weights == [], "a route never names a Service that is not ours"
    world.target(2)
    for _ in range(20):
        world.settle()
        world.reconcile()
        world.advance(5)
    assert world.status["stable"]["version"] == 2
    assert world.status["state"] == "Promoted"
    assert world.servers() == {1, 2}


def test_a_taken_name_of_a_next_version_does_not_keep_an_alert_from_going_back(serving: World):
    world = serving
    world.serve(2)
    world.hide(SERVICE)
    world.target(3)
    world.run_some()
    assert world.status["state"] == "NameConflict"
    world.reconcile(world.alert(2))
    assert world.split().get(1) == 100
    assert world.status["stable"]["version"] == 1
    assert [r["version"] for r in world.status["rejected"]] == [2]


def test_taken_rules_keep_the_rollout_from_going_on_blindly_but_not_from_going_back(
    serving: World,
):
    world = serving
    world.serve(2)
    world.cache.remove("ConfigMap", world.obj("ConfigMap", f"{NAME}-rules"))
    world.hide(foreign("ConfigMap", f"{NAME}-rules"))
    world.run_some()
    assert world.status["state"] == "NameConflict"
    assert "ConfigMap" in world.condition("MonitoringAvailable")["message"]
    world.reconcile(world.alert(2))
    assert world.split().get(1) == 100


def test_a_child_that_was_replaced_between_read_and_write_is_left_alone(serving: World):
    """The cache still has ours; the API server has somebody else's by that name."""
    world = serving
    theirs = world.hide(foreign("HTTPRoute", NAME))
    world.edit(traffic=ELSEWHERE)
    world.run_some()
    assert world.hidden["HTTPRoute", NAME] is theirs
    assert theirs["spec"] == {"theirs": True}
    assert world.status["state"] == "NameConflict"


def test_a_child_whose_owner_reference_was_taken_away_is_not_taken_back(serving: World):
    world = serving
    route = copy.deepcopy(world.obj("HTTPRoute", NAME))
    del route["metadata"]["ownerReferences"]
    orphan = world._put(route)
    world.writes.clear()
    world.run_some()
    assert all(kind == "PolicyDeployment" for _, kind, _ in world.writes), world.writes
    assert "ownerReferences" not in orphan["metadata"]
    message = world.condition("Progressing")["message"]
    assert "has no owner, though its label app.kubernetes.io/managed-by is policy-op" in message


def test_a_child_that_the_cache_has_not_seen_is_ours_by_its_owner(serving: World):
    """A write whose answer was lost: it is known by its owner, and not made twice."""
    world = serving
    route = world.obj("HTTPRoute", NAME)
    world.cache.remove("HTTPRoute", route, version=0)
    world.hidden["HTTPRoute", NAME] = route
    world.edit(traffic=ELSEWHERE)
    world.reconcile()
    assert world.obj("HTTPRoute", NAME)["metadata"]["uid"] == route["metadata"]["uid"]
    assert world.obj("HTTPRoute", NAME)["spec"]["hostnames"] == ["b.example.com"]
    assert world.status["state"] == "Promoted"


def test_a_child_whose_label_was_taken_away_gets_it_again(serving: World):
    """No watch tells of it any more, and it is still ours."""
    world = serving
    route = copy.deepcopy(world.obj("HTTPRoute", NAME))
    world.cache.remove("HTTPRoute", route, version=0)
    del route["metadata"]["labels"]
    world.hidden["HTTPRoute", NAME] = route
    world.reconcile()
    labels = world.obj("HTTPRoute", NAME)["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "policy-operator"
    assert world.obj("HTTPRoute", NAME)["metadata"]["uid"] == route["metadata"]["uid"]
    assert world.status["state"] == "Promoted"
