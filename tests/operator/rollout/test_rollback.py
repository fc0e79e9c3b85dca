"""What sends a version back, and what a person's word does."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from policy_operator.machinery.errors import Conflict
from policy_operator.monitoring.types import Monitoring
from policy_operator.rollout import webhook
from rollout_world import KEY, NAME, World

PAYLOADS = Path(__file__).parent / "payloads"


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


@pytest.fixture
def promoted(canary: World) -> World:
    """Return a world in which version 2 was promoted and is watched."""
    canary.serve(2)
    canary.advance(30)
    canary.run()
    return canary


def event_reasons(world: World, kind: str) -> list[str]:
    return [e.reason for e in world.events if e.type == kind]


def test_an_alert_about_the_candidate_rolls_it_back_for_good(canary: World):
    canary.advance(3)
    canary.writes.clear()
    canary.reconcile(canary.alert(2))
    assert canary.writes[0] == ("apply", "HTTPRoute", NAME), "weights first"
    assert canary.writes[1] == ("status", "PolicyVersion", f"{NAME}-v2"), "then the rejection"
    assert canary.writes[-1] == ("status", "PolicyDeployment", NAME), "then the status"
    assert canary.split() == {1: 100, 2: 0}
    canary.run()
    assert canary.status["state"] == "RolledBack"
    rejected = canary.version_condition(2, "Rejected")
    assert rejected is not None
    assert (rejected["status"], rejected["reason"]) == ("True", "HighErrorRate")
    assert "42% of the decisions failed" in rejected["message"]
    assert canary.status["rejected"][0]["version"] == 2
    assert "RolledBack" in event_reasons(canary, "Warning")
    for _ in range(5):
        canary.advance(100)
        canary.run()
        assert canary.split() == {1: 100}
    assert canary.servers() == {1}
    message = canary.condition("Progressing")["message"]
    assert "target v2 was rejected" in message
    assert "policyops.dev/retry: 2" in message


def test_weights_go_first_whatever_else_there_is_to_do(canary: World):
    canary.edit(server={"image": "other:1"}, alerts=[{"name": "HighErrorRate", "expr": "up == 0"}])
    canary.advance(3)
    canary.writes.clear()
    canary.reconcile(canary.alert(2))
    assert canary.writes[0] == ("apply", "HTTPRoute", NAME)
    assert ("apply", "Deployment", f"{NAME}-v1") in canary.writes


def test_the_bad_version_keeps_its_pods_until_its_answers_are_given(canary: World):
    canary.reconcile(canary.alert(2))
    canary.advance(9)
    canary.run()
    assert canary.servers() == {1, 2}
    canary.advance(2)
    canary.run()
    assert canary.servers() == {1}


def test_an_alert_that_only_the_poll_saw_rolls_back_as_well(canary: World):
    canary.advance(3)
    canary.monitoring = Monitoring(
        True, "Reachable", asked_at=canary.now, signals=(canary.alert(2, ago=1),)
    )
    canary.run()
    assert canary.status["state"] == "RolledBack"


def test_an_alert_about_another_version_is_not_the_candidates(canary: World):
    canary.reconcile(canary.alert(1))
    canary.run()
    assert canary.split() == {1: 90, 2: 10}
    assert canary.condition("Degraded")["status"] == "True"


def test_an_alert_without_a_version_counts_from_the_candidates_first_traffic(canary: World):
    canary.advance(5)
    canary.reconcile(canary.alert(None, ago=60))
    assert canary.split() == {1: 90, 2: 10}, "it fired before"
    canary.reconcile(canary.alert(None, name="Other", ago=1))
    assert canary.split() == {1: 90, 2: 10}, "no alert of the spec"
    canary.edit(alerts=[{"name": "Other", "expr": "up == 0"}])
    canary.reconcile(canary.alert(None, name="Other", ago=1))
    assert canary.split() == {1: 100, 2: 0}


def test_an_alert_without_a_version_sends_only_one_version_back(promoted: World):
    promoted.target(3)
    promoted.run()
    assert promoted.status["candidate"]["version"] == 3
    promoted.advance(2)
    promoted.reconcile(promoted.alert(None))
    promoted.run()
    promoted.advance(5)
    promoted.run()
    assert promoted.status["stable"]["version"] == 2
    assert [r["version"] for r in promoted.status["rejected"]] == [3]


def test_a_label_that_is_no_version_of_ours_is_about_nothing(canary: World):
    payload = json.loads((PAYLOADS / "firing.json").read_text())
    payload["alerts"][0]["labels"]["version"] = "1.2.3"
    canary.post(json.dumps(payload).encode())
    assert canary.split() == {1: 90, 2: 10}


def test_an_alert_in_the_watch_after_a_promotion_goes_back_to_the_version_before(promoted: World):
    promoted.writes.clear()
    promoted.reconcile(promoted.alert(2))
    assert promoted.writes[0] == ("apply", "HTTPRoute", NAME)
    promoted.run()
    assert promoted.split() == {1: 100, 2: 0}
    assert promoted.status["stable"]["version"] == 1
    assert promoted.status["state"] == "RolledBack"
    promoted.advance(20)
    promoted.run()
    assert promoted.servers() == {1}


def test_such_a_rollback_takes_a_next_candidate_back_without_blame(promoted: World):
    promoted.target(3)
    promoted.run()
    assert promoted.split() == {2: 90, 3: 10, 1: 0}
    promoted.reconcile(promoted.alert(2))
    assert promoted.split() == {1: 100, 2: 0, 3: 0}
    promoted.run()
    assert promoted.status["candidate"]["version"] == 3, "it starts anew against v1"
    assert [r["version"] for r in promoted.status["rejected"]] == [2]


def test_after_the_watch_there_is_nothing_to_go_back_to(promoted: World):
    promoted.advance(400)
    promoted.run()
    promoted.reconcile(promoted.alert(2))
    promoted.run()
    assert promoted.split() == {2: 100}
    degraded = promoted.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "AlertFiring")
    assert "no version to roll back to" in degraded["message"]
    assert event_reasons(promoted, "Warning") == ["AlertFiring"]
    over = promoted.alert(2)
    promoted.reconcile(type(over)(name=over.name, firing=False, since=over.since, version=2))
    assert promoted.condition("Degraded")["status"] == "False"


def test_no_rollback_on_to_a_version_without_endpoints(promoted: World):
    promoted.dead.add(1)
    promoted.settle()
    promoted.reconcile(promoted.alert(2))
    promoted.run()
    assert promoted.split() == {2: 100, 1: 0}
    assert promoted.condition("Degraded")["status"] == "True"
    promoted.dead.clear()
    promoted.run()
    assert promoted.split() == {1: 100, 2: 0}, "it happens as soon as it can"


def test_a_stable_version_that_fails_too_halts_the_rollout(canary: World):
    canary.reconcile(canary.alert(1), canary.alert(2))
    canary.advance(100)
    canary.run()
    assert canary.split() == {1: 90, 2: 10}
    assert canary.status["state"] == "Halted"
    assert canary.condition("Degraded")["reason"] == "StableUnhealthy"
    assert event_reasons(canary, "Warning") == ["StableUnhealthy"]
    over = canary.alert(1, ago=200)
    canary.reconcile(type(over)(name=over.name, firing=False, since=canary.now, version=1))
    assert canary.split() == {1: 100, 2: 0}, "stable recovered, the candidate did not"


def test_an_alert_that_ended_unheard_is_resolved_by_the_poll(world: World):
    world.reconcile(world.alert(1))
    assert world.status["alerts"][0]["state"] == "Firing"
    world.advance(10)
    world.monitoring = Monitoring(True, "Reachable", asked_at=world.now - timedelta(seconds=1))
    world.run()
    assert world.status["alerts"][0]["state"] == "Resolved"
    assert world.condition("Degraded")["status"] == "False"


def test_a_retry_rolls_a_rejected_version_out_once_more(canary: World):
    canary.reconcile(canary.alert(2))
    canary.run()
    canary.advance(60)
    canary.monitoring = Monitoring(True, "Reachable", asked_at=canary.now)
    canary.run()
    canary.annotate(retry="2")
    canary.run()
    assert canary.split()[2] == 10
    lifted = canary.version_condition(2, "Rejected")
    assert lifted is not None
    assert (lifted["status"], lifted["reason"]) == ("False", "Retried")
    canary.advance(3)
    canary.reconcile(canary.alert(2))
    canary.run()
    canary.advance(100)
    canary.run()
    assert canary.status["state"] == "RolledBack", "the same annotation does not act twice"
    assert canary.split() == {1: 100}
    canary.annotate()
    canary.monitoring = Monitoring(True, "Reachable", asked_at=canary.now)
    canary.run()
    canary.annotate(retry="2")
    canary.run()
    assert canary.split()[2] == 10, "taken away and set again it does"


def test_a_retry_that_is_set_before_the_rollout_is_no_licence_to_return(world: World):
    world.annotate(retry="2")
    world.target(2)
    world.run()
    world.advance(2)
    world.reconcile(world.alert(2))
    world.run()
    assert world.status["state"] == "RolledBack"


def test_an_abort_gives_traffic_back_until_the_target_changes(canary: World):
    canary.annotate(abort="true")
    canary.run()
    assert canary.split() == {1: 100, 2: 0}
    assert canary.status["state"] == "Aborted"
    assert canary.version_condition(2, "Rejected") is None
    canary.advance(100)
    canary.run()
    assert canary.split() == {1: 100}
    canary.target(3)
    canary.run()
    assert canary.split()[3] == 10, "the annotation is still there, and has acted"


def test_an_abort_before_the_start_stops_it(world: World):
    world.annotate(abort="now")
    world.target(2)
    # both are seen at once
    world.run()
    assert world.status["state"] == "Aborted"
    assert world.split() == {1: 100}


def test_an_abort_with_nothing_under_way_does_nothing(world: World):
    world.annotate(abort="x")
    world.run()
    assert world.status["state"] == "Promoted"
    world.target(2)
    world.run()
    assert world.split() == {1: 90, 2: 10}


def test_a_version_that_another_deployment_rejected_is_not_taken(world: World):
    bad = {
        "type": "Rejected",
        "status": "True",
        "reason": "HighErrorRate",
        "message": "rolled back in PolicyDeployment other",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    old = world.obj("PolicyVersion", f"{NAME}-v2")["status"]
    new = {**old, "conditions": [*old["conditions"], bad]}
    world.change("PolicyVersion", f"{NAME}-v2", status=new)
    world.target(2)
    world.run()
    assert world.status["state"] == "TargetRejected"
    assert world.split() == {1: 100}
    world.annotate(retry="2")
    world.run()
    assert world.split() == {1: 90, 2: 10}
    world.change("PolicyVersion", f"{NAME}-v2", status=new)
    world.run()
    assert world.split() == {1: 100, 2: 0}, "rejected while it is tried here"


def test_a_webhook_acts_before_it_returns(canary: World):
    canary.post((PAYLOADS / "firing.json").read_bytes())
    assert canary.split() == {1: 100, 2: 0}
    writes = len(canary.writes)
    canary.post((PAYLOADS / "firing.json").read_bytes())
    canary.run()
    canary.post((PAYLOADS / "firing.json").read_bytes())
    applied = [w for w in canary.writes[writes:] if w[0] == "apply"]
    assert not [w for w in applied if canary.split()[2] != 0], "delivered again, it changes nothing"
    assert len(canary.status["rejected"]) == 1
    assert [h["event"] for h in canary.status["history"]].count("RolledBack") == 1


def test_the_webhook_answers_once_the_weights_are_written(canary: World):
    """What comes after them may take its time, or fail and be made up for."""
    woken: list[object] = []
    slow, added, real = asyncio.Event(), asyncio.Event(), canary.patch_status

    def add(key: object) -> None:
        woken.append(key)
        added.set()

    canary.ctx.queue.add = add

    async def fails_later(*arguments: Any, **options: Any) -> None:
        await slow.wait()
        raise OSError("the API server went away")

    async def deliver() -> None:
        canary.patch_status = fails_later  # type: ignore[method-assign]
        payload = (PAYLOADS / "firing.json").read_bytes()
        await asyncio.wait_for(webhook.handle(payload, canary.ctx, canary.now), 5)
        assert canary.split() == {1: 100, 2: 0}
        assert canary.status["candidate"]["version"] == 2, "not written down yet"
        slow.set()
        await asyncio.wait_for(added.wait(), 5)

    asyncio.run(deliver())
    canary.patch_status = real  # type: ignore[method-assign]
    assert woken == [KEY]
    canary.run()
    assert canary.status["state"] == "RolledBack"
    assert canary.split() == {1: 100, 2: 0}


def test_a_write_that_fails_before_the_weights_is_the_senders_to_repeat(canary: World):
    async def refuses(manifest: dict[str, Any], **_: Any) -> dict[str, Any]:
        raise OSError("the API server went away")

    canary.apply = refuses  # type: ignore[method-assign]
    with pytest.raises(OSError, match="went away"):
        canary.post((PAYLOADS / "firing.json").read_bytes())


def test_a_webhook_for_an_unknown_deployment_is_ignored(canary: World):
    payload = json.loads((PAYLOADS / "firing.json").read_text())
    payload["alerts"][0]["labels"]["policyops_deployment"] = "gone"
    canary.post(json.dumps(payload).encode())
    assert canary.split() == {1: 90, 2: 10}


def test_a_gateways_word_on_the_route_delays_no_rollback(canary: World):
    """The route's status is newer than the cache knows: the write is repeated, once, at once."""
    route = canary.obj("HTTPRoute", NAME)
    canary.unseen("HTTPRoute", NAME, status={**route["status"], "news": "of the controller"})
    writes = len(canary.writes)
    canary.post((PAYLOADS / "firing.json").read_bytes())
    assert canary.split() == {1: 100, 2: 0}
    assert canary.writes[writes] == ("apply", "HTTPRoute", NAME)
    assert canary.obj("HTTPRoute", NAME)["status"]["news"], "it was in the way"


def test_a_route_that_somebody_changed_is_decided_on_again(canary: World):
    """What the decision knows of the route is wrong: it is taken from what is there now."""
    canary.unseen("HTTPRoute", NAME, annotations={"team": "new"})
    canary.post((PAYLOADS / "firing.json").read_bytes())
    assert canary.split() == {1: 100, 2: 0}
    canary.run()
    assert canary.status["state"] == "RolledBack"


def test_a_target_that_crosses_a_status_write_is_acted_on_at_once(canary: World):
    """The write of the status meets the user's edit: it is refused, and the edit decided on."""
    canary.advance(20)  # the next step is due, and a status write with it
    wanted = {**canary.obj("PolicyDeployment", NAME)["spec"], "target": {"version": 3}}
    canary.unseen("PolicyDeployment", NAME, spec=wanted)
    canary.reconcile()
    assert canary.obj("PolicyDeployment", NAME)["spec"]["target"] == {"version": 3}
    assert canary.status["observedGeneration"] == canary.pdep.meta.generation
    assert "v3" in canary.condition("Progressing")["message"]


def test_versions_that_change_all_the_time_end_in_a_retry(canary: World):
    """A write that never fits is given up for now; the queue backs off."""
    real = canary._test

    def always(kind: str, name: str, seen: dict[str, Any] | None) -> None:
        if kind == "HTTPRoute":
            raise Conflict(409, "Conflict", "the object has been modified", "APPLY")
        real(kind, name, seen)

    canary._test = always  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="rounds"):
        canary.post((PAYLOADS / "firing.json").read_bytes())


def test_what_we_may_not_read_is_said_and_stops_no_rollback(canary: World):
    canary.denied.add("EndpointSlice")
    canary.advance(20)
    canary.reconcile()
    canary.reconcile()
    assert canary.status["state"] == "PermissionMissing"
    assert canary.condition("Progressing")["message"] == "EndpointSlice is forbidden"
    assert [e.reason for e in canary.events].count("PermissionMissing") == 1
    assert canary.split() == {1: 90, 2: 10}, "the next step waits"
    canary.post((PAYLOADS / "firing.json").read_bytes())
    assert canary.split() == {1: 100, 2: 0}
    canary.denied.clear()
    canary.run()
    assert canary.status["state"] == "RolledBack"
