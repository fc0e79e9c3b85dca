"""The rules of the rollout, one by one, through the operator's own reconcile."""

from typing import Any

import pytest
from policy_operator.machinery.errors import ApiError
from rollout_world import NAME, KilledError, World


@pytest.fixture
def world() -> World:
    """Return a world in which version 1 serves."""
    found = World()
    found.serve(1)
    return found


@pytest.fixture
def canary(world: World) -> World:
    """Return a world in which version 2 takes 10 %."""
    world.target(2)
    world.run()
    assert world.split() == {1: 90, 2: 10}
    return world


def test_the_first_version_is_promoted_as_soon_as_it_is_ready():
    world = World(dead={1})
    world.run()
    assert world.split() == {1: 0}
    assert world.status["state"] == "WaitingForServer"
    assert world.condition("Ready")["status"] == "False"
    world.dead.clear()
    world.run()
    assert world.split() == {1: 100}
    assert world.status["stable"]["version"] == 1
    assert world.status["state"] == "Promoted"
    assert world.condition("Ready")["status"] == "True"
    assert world.status["url"] == "http://review.example.com/"


def test_a_candidate_goes_through_the_steps_and_is_promoted(canary: World):
    canary.advance(10)
    canary.run()
    assert canary.split() == {1: 90, 2: 10}, "held a little longer than asked, never shorter"
    canary.advance(1)
    canary.run()
    assert canary.split() == {1: 50, 2: 50}
    assert canary.status["candidate"]["stepName"] == "half"
    canary.advance(11)
    canary.run()
    assert canary.split() == {2: 100, 1: 0}
    assert canary.status["stable"]["version"] == 2
    assert canary.status["previous"]["version"] == 1
    assert [h["event"] for h in canary.status["history"]][-4:] == [
        "Started",
        "Step",
        "Step",
        "Promoted",
    ]
    assert canary.weights[0] == {1: 0}
    assert {1: 100, 2: 0} in canary.weights, "a candidate is first known to the gateway at 0"


def test_the_version_before_is_removed_when_the_promotion_is_no_longer_watched(canary: World):
    canary.serve(2)
    canary.advance(290)
    canary.run()
    assert canary.servers() == {1, 2}
    canary.advance(20)
    canary.run()
    assert canary.split() == {2: 100}
    assert canary.servers() == {2}
    assert "previous" not in canary.status


def test_without_a_watch_the_version_before_still_finishes_its_answers(world: World):
    world.edit(rollback={"watchAfterPromotionSeconds": 0}, rollout={"steps": []})
    world.target(2)
    world.run()
    assert world.split() == {2: 100, 1: 0}
    assert world.servers() == {1, 2}
    world.advance(11)
    world.run()
    assert world.servers() == {2}


def test_a_candidate_that_is_not_ready_gets_no_traffic(world: World):
    world.dead.add(2)
    world.target(2)
    world.run()
    world.advance(30)
    world.run()
    assert world.split() == {1: 100, 2: 0}
    assert world.status["state"] == "WaitingForServer"
    assert "0 of 1 pods of v2 are ready" in world.condition("Progressing")["message"]


def test_a_candidate_that_the_gateway_has_not_taken_up_gets_no_traffic(world: World):
    world.gateway = False
    world.target(2)
    world.run()
    assert world.split() == {1: 100, 2: 0}
    assert world.status["state"] == "WaitingForRoute"
    world.gateway = True
    world.run()
    assert world.split() == {1: 90, 2: 10}


def test_a_candidate_without_progress_is_given_up_until_it_is_retried(world: World):
    world.dead.add(2)
    world.target(2)
    world.run()
    world.advance(61)
    world.run()
    assert world.status["state"] == "ProgressDeadlineExceeded"
    assert world.split()[1] == 100
    world.advance(11)
    world.run()
    assert world.servers() == {1}
    assert world.version_condition(2, "Rejected") is None, "it made no progress: it is not bad"
    world.dead.clear()
    world.advance(1000)
    world.run()
    assert world.status["state"] == "ProgressDeadlineExceeded", "not retried by itself"
    world.annotate(retry="2")
    world.run()
    assert world.split() == {1: 90, 2: 10}


def test_a_new_target_ends_what_was_given_up(world: World):
    world.dead.add(2)
    world.target(2)
    world.run()
    world.advance(61)
    world.run()
    world.target(3)
    world.run()
    assert world.status["candidate"]["version"] == 3
    assert "givenUp" not in world.status


def test_a_first_version_that_never_gets_ready_keeps_trying():
    world = World(dead={1})
    world.run()
    world.advance(100)
    world.run()
    assert world.status["state"] == "ProgressDeadlineExceeded"
    world.dead.clear()
    world.run()
    assert world.status["state"] == "Promoted"


def test_a_candidate_whose_pods_all_go_away_loses_its_traffic_and_starts_anew(canary: World):
    canary.dead.add(2)
    canary.run()
    assert canary.split() == {1: 100, 2: 0}
    assert canary.status["candidate"]["stepIndex"] == -1
    canary.dead.clear()
    canary.run()
    assert canary.split() == {1: 90, 2: 10}


def test_no_traffic_for_a_candidate_whose_alerts_could_not_fire(world: World):
    world.blind = True
    world.target(2)
    world.run()
    assert world.split() == {1: 100, 2: 0}
    assert world.status["state"] == "WaitingForMonitoring"
    assert world.condition("MonitoringAvailable")["reason"] == "RulesNotLoaded"
    assert world.hurried
    world.advance(1000)
    world.run()
    assert world.status["state"] == "WaitingForMonitoring", "not the candidate's fault"
    world.blind = False
    world.run()
    assert world.split() == {1: 90, 2: 10}
    assert world.condition("MonitoringAvailable")["status"] == "True"


def test_without_alerts_nobody_waits_for_prometheus(world: World):
    world.blind = True
    world.edit(alerts=[])
    world.target(2)
    world.run()
    assert world.split() == {1: 90, 2: 10}
    assert world.cache.get("ConfigMap", "ml", f"{NAME}-rules") is None


@pytest.mark.parametrize(("version", "reason"), [(4, "TargetNotAccepted"), (9, "TargetNotFound")])
def test_a_target_that_is_no_accepted_version_changes_no_traffic(
    canary: World, version: int, reason: str
):
    canary.add_version(4, accepted=False)
    canary.target(version)
    canary.run()
    canary.advance(100)
    canary.run()
    assert canary.status["state"] == reason
    assert canary.split() == {1: 90, 2: 10}


def test_a_new_target_replaces_the_candidate(canary: World):
    canary.target(3)
    canary.reconcile()
    assert canary.split() == {1: 100, 2: 0}, "its weight goes first"
    canary.run()
    assert canary.status["candidate"]["version"] == 3
    assert canary.split() == {1: 90, 2: 0, 3: 10}
    canary.advance(10.5)
    canary.run()
    assert canary.servers() == {1, 3}


def test_the_stable_version_as_target_takes_the_candidate_back(canary: World):
    canary.target(1)
    canary.run()
    assert canary.split() == {1: 100, 2: 0}
    assert canary.status["state"] == "Promoted"
    canary.advance(11)
    canary.run()
    assert canary.servers() == {1}


def test_the_version_before_as_target_serves_again_at_once_while_it_is_watched(canary: World):
    canary.serve(2)
    canary.target(1)
    canary.run()
    assert canary.split() == {1: 100, 2: 0}
    assert canary.status["stable"]["version"] == 1
    assert canary.status["state"] == "Promoted"


def test_the_version_before_goes_through_the_steps_once_it_is_no_longer_watched(canary: World):
    canary.serve(2)
    canary.advance(400)
    canary.run()
    canary.target(1)
    canary.run()
    assert canary.split() == {2: 90, 1: 10}


def test_versions_say_where_they_serve(canary: World):
    assert canary.serving(1) == [{"deployment": NAME, "role": "stable", "weight": 90}]
    assert canary.serving(2) == [{"deployment": NAME, "role": "candidate", "weight": 10}]
    canary.serve(2)
    assert canary.serving(1) == []
    assert canary.serving(2) == [{"deployment": NAME, "role": "stable", "weight": 100}]
    stopped = canary.version_condition(1, "Serving")
    assert stopped is not None
    assert stopped["status"] == "False"


def test_a_deleted_deployment_serves_nothing(canary: World):
    canary.cache.remove("PolicyDeployment", canary.obj("PolicyDeployment", NAME))
    canary.reconcile()
    assert canary.serving(1) == []
    assert canary.serving(2) == []


def test_an_operator_that_died_after_the_weights_goes_on_from_them(canary: World):
    canary.advance(11)
    canary.kill_at = len(canary.writes) + 1
    with pytest.raises(KilledError):
        canary.reconcile()
    canary.kill_at = None
    assert (canary.split(), canary.status["candidate"]["weight"]) == ({1: 50, 2: 50}, 10)
    seen = len(canary.weights)
    canary.run()
    assert canary.status["candidate"]["weight"] == 50
    assert canary.weights[seen:] == [], "the split is what it was to be"


def test_shorter_holds_apply_to_the_step_that_is_held(canary: World):
    steps = [{"name": "canary", "weight": 10, "holdSeconds": 1}]
    canary.edit(rollout={"steps": steps, "progressDeadlineSeconds": 60})
    canary.advance(3)
    canary.run()
    assert canary.status["stable"]["version"] == 2


def test_a_new_server_image_reaches_every_version_that_serves(canary: World):
    canary.edit(server={"image": "other:1", "replicas": 2})
    canary.run()
    for version in (1, 2):
        deployment = canary.obj("Deployment", f"{NAME}-v{version}")
        assert deployment["spec"]["replicas"] == 2
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "other:1"


def test_weights_that_somebody_else_wrote_are_put_back(canary: World):
    route = canary.obj("HTTPRoute", NAME)
    spec = {**route["spec"]}
    refs = [{**r, "weight": 50} for r in spec["rules"][0]["backendRefs"]]
    canary.change(
        "HTTPRoute", NAME, spec={**spec, "rules": [{**spec["rules"][0], "backendRefs": refs}]}
    )
    canary.run()
    assert canary.split() == {1: 90, 2: 10}


def test_weights_of_one_rule_that_somebody_else_wrote_are_put_back(canary: World):
    traffic = canary.obj("PolicyDeployment", NAME)["spec"]["traffic"]
    canary.edit(traffic={**traffic, "path": "/retain"})
    canary.run()
    *rules, last = canary.obj("HTTPRoute", NAME)["spec"]["rules"]
    assert len(rules) == 3
    refs = [{**r, "weight": 50} for r in last["backendRefs"]]
    spec = canary.obj("HTTPRoute", NAME)["spec"]
    canary.change(
        "HTTPRoute", NAME, spec={**spec, "rules": [*rules, {**last, "backendRefs": refs}]}
    )
    canary.run()
    assert canary.split() == {1: 90, 2: 10}


def test_a_cluster_without_the_gateway_api_is_told():
    world = World(gateway_api=False)
    world.run()
    assert world.status["state"] == "GatewayAPIMissing"
    assert world.servers() == set()
    world.gateway_api = True
    world.run()
    assert world.status["state"] == "Promoted"


def test_what_the_api_server_refuses_is_told(canary: World):
    canary.edit(server={"resources": {"limits": {"memory": "much"}}})
    real = canary.apply

    async def refuses(manifest: dict[str, Any], **options: Any) -> dict[str, Any]:
        if manifest["kind"] == "Deployment":
            raise ApiError(422, "Invalid", "memory: quantities must match", "APPLY /x")
        return await real(manifest, **options)

    canary.apply = refuses  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ApiError):
            canary.reconcile()
    assert canary.status["state"] == "ApplyFailed"
    message = canary.condition("Progressing")["message"]
    assert message == "the API server refuses: memory: quantities must match"
    assert canary.split() == {1: 90, 2: 10}
    with pytest.raises(ApiError):
        canary.reconcile(canary.alert(2))
    assert canary.split() == {1: 100, 2: 0}, "a rollback does not wait for it"
    assert "candidate" not in canary.status, "and is written down"
    assert [e.reason for e in canary.events].count("ApplyFailed") == 1
    canary.apply = real  # type: ignore[method-assign]
    canary.run()
    assert canary.status["state"] == "RolledBack"


def test_a_settled_deployment_is_not_written(canary: World):
    assert canary.reconcile() == 0
    canary.advance(1)
    assert canary.reconcile() == 0
