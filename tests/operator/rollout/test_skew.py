"""What an older operator does with a PolicyDeployment that a newer one has been given."""

import copy

import pytest
from policy_api import __version__
from rollout_world import NAME, POLICY, World


@pytest.fixture
def canary() -> World:
    """Return a world in which version 2 takes 10 %, by a route with more than we would write."""
    world = World()
    world.serve(1)
    world.target(2)
    world.run()
    assert world.split() == {1: 90, 2: 10}
    route = copy.deepcopy(world.obj("HTTPRoute", NAME))
    route["metadata"]["annotations"]["policyops.dev/applied"] = "by a newer operator"
    route["spec"]["rules"][0]["retry"] = {"attempts": 3}
    world.change(
        "HTTPRoute", NAME, spec=route["spec"], annotations=route["metadata"]["annotations"]
    )
    traffic = world.obj("PolicyDeployment", NAME)["spec"]["traffic"]
    world.edit(traffic={**traffic, "retry": {"attempts": 3}}, server={"replicas": 1, "arch": "arm"})
    return world


def test_traffic_stays_as_it_is_and_it_says_why(canary: World):
    canary.writes.clear()
    canary.advance(3600)
    canary.run()
    assert canary.split() == {1: 90, 2: 10}
    assert [w for w in canary.writes if w[1] != "PolicyDeployment"] == []
    progressing = canary.condition("Progressing")
    assert (canary.status["state"], progressing["status"]) == ("UnknownField", "False")
    assert progressing["message"] == (
        f"spec.server.arch is unknown to this operator (version {__version__}): upgrade the "
        "operator, or remove it"
    )


def test_an_alert_still_sends_it_back_and_leaves_the_rest_of_the_route(canary: World):
    canary.writes.clear()
    canary.reconcile(canary.alert(2))
    assert canary.writes[0] == ("apply", "HTTPRoute", NAME)
    assert canary.split() == {1: 100, 2: 0}
    assert canary.obj("HTTPRoute", NAME)["spec"]["rules"][0]["retry"] == {"attempts": 3}
    canary.run()
    rejected = canary.version_condition(2, "Rejected")
    assert rejected is not None
    assert rejected["status"] == "True"
    assert canary.servers() == {1, 2}, "what a newer operator made is left to it"


def test_so_does_a_person(canary: World):
    canary.annotate(abort="now")
    canary.run()
    assert canary.split() == {1: 100, 2: 0}
    assert canary.status["givenUp"]["reason"] == "Aborted"


def test_it_goes_on_once_the_fields_are_gone(canary: World):
    canary.run()
    spec = canary.obj("PolicyDeployment", NAME)["spec"]
    traffic = {k: v for k, v in spec["traffic"].items() if k != "retry"}
    canary.edit(traffic=traffic, server={"replicas": 1})
    canary.advance(3600)
    canary.run()
    assert canary.split() == {1: 50, 2: 50}


def test_what_a_newer_operator_has_recorded_survives(canary: World):
    status = {**canary.status, "pace": {"slow": True}}
    canary.change("PolicyDeployment", NAME, status=status)
    name = f"{POLICY}-v2"
    version = {**canary.obj("PolicyVersion", name)["status"], "retired": "no"}
    canary.change("PolicyVersion", name, status=version)
    canary.reconcile(canary.alert(2))
    assert canary.status["pace"] == {"slow": True}
    assert canary.status["stable"]["weight"] == 100
    recorded = canary.obj("PolicyVersion", name)["status"]
    assert recorded["retired"] == "no"
    assert "Rejected" in [c["type"] for c in recorded["conditions"]]


def test_a_version_of_a_recipe_that_only_a_newer_operator_knows_does_not_stop_a_rollback(
    canary: World,
):
    name = f"{POLICY}-v3"
    spec = {**canary.obj("PolicyVersion", name)["spec"], "recipe": "KTO", "lineage": []}
    canary.change("PolicyVersion", name, spec=spec)
    canary.reconcile(canary.alert(2))
    assert canary.split() == {1: 100, 2: 0}
