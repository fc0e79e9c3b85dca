"""How many pods: a budget for more than one, and an autoscaler whose word stays."""

import copy
from typing import Any

import pytest
from rollout_world import NAME, World

BUDGET, SCALER = "PodDisruptionBudget", "HorizontalPodAutoscaler"
SCALED: dict[str, Any] = {
    "resources": {"requests": {"cpu": "500m"}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 8},
}


def count(world: World, version: int = 1) -> int:
    found: int = world.obj("Deployment", f"{NAME}-v{version}")["spec"]["replicas"]
    return found


def scale(world: World, replicas: int, version: int = 1) -> None:
    """Do as an autoscaler does."""
    name = f"{NAME}-v{version}"
    world.change(
        "Deployment", name, spec={**world.obj("Deployment", name)["spec"], "replicas": replicas}
    )


def names(world: World, kind: str) -> list[str]:
    return [o["metadata"]["name"] for o in world.cache.list(kind, "ml")]


@pytest.fixture
def scaled() -> World:
    """A world in which version 1 serves and is scaled."""
    world = World()
    world.edit(server=copy.deepcopy(SCALED))
    world.serve(1)
    return world


def test_more_than_one_pod_has_a_budget():
    world = World()
    world.serve(1)
    assert names(world, BUDGET) == []
    world.edit(server={"replicas": 2})
    world.run()
    budget = world.obj(BUDGET, f"{NAME}-v1")
    deployment = world.obj("Deployment", f"{NAME}-v1")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert budget["metadata"]["ownerReferences"][0]["name"] == NAME
    world.edit(server={"replicas": 1})
    world.run()
    assert names(world, BUDGET) == []


def test_an_autoscaler_asks_the_servers_own_container(scaled: World):
    spec = scaled.obj(SCALER, f"{NAME}-v1")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{NAME}-v1"}
    assert spec["scaleTargetRef"] == target
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)
    assert spec["metrics"] == [
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": "server",
                "target": {"type": "Utilization", "averageUtilization": 80},
            },
        }
    ]
    assert names(scaled, BUDGET) == [f"{NAME}-v1"]


def test_it_starts_with_the_fewest_and_what_is_scaled_stays(scaled: World):
    world = scaled
    assert count(world) == 2
    scale(world, 7)
    writes = len(world.writes)
    world.run()
    assert len(world.writes) == writes, "another number is nothing to write"
    world.edit(server={**SCALED, "resources": {"requests": {"cpu": "1"}}})
    world.run()
    assert count(world) == 7
    pod = world.obj("Deployment", f"{NAME}-v1")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "1"}}


def test_a_write_that_meets_another_number_is_decided_again(scaled: World):
    world = scaled
    scale(world, 3)
    world.run()
    name = f"{NAME}-v1"
    spec = world.obj("Deployment", name)["spec"]
    world.unseen("Deployment", name, spec={**spec, "replicas": 6})
    world.edit(server={**SCALED, "image": "mine:2"})
    world.reconcile()
    assert count(world) == 6
    pod = world.obj("Deployment", name)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "mine:2"


def test_from_a_number_to_an_autoscaler_and_back():
    world = World()
    world.edit(server={"replicas": 5})
    world.serve(1)
    world.edit(server=copy.deepcopy(SCALED))
    world.run()
    assert count(world) == 5, "no pod goes before the autoscaler has its say"
    scale(world, 4)
    world.run()
    assert count(world) == 4
    world.edit(server={"replicas": 3})
    world.run()
    assert count(world) == 3
    assert names(world, SCALER) == []


def test_a_version_that_is_kept_for_a_rollback_keeps_its_pods(scaled: World):
    world = scaled
    scale(world, 6)
    world.serve(2)
    world.run()
    assert names(world, SCALER) == [f"{NAME}-v2"]
    assert count(world) == 6
    world.reconcile(world.alert(2))
    world.run()
    assert world.status["stable"]["version"] == 1
    assert f"{NAME}-v1" in names(world, SCALER)
    assert count(world) == 6
    world.advance(60)
    world.run()
    assert names(world, SCALER) == names(world, BUDGET) == [f"{NAME}-v1"]


def test_without_a_request_there_is_nothing_to_measure_against():
    world = World()
    world.edit(server={"autoscaling": {"maxReplicas": 8}})
    world.run_some()
    assert world.status["state"] == "ServerInvalid"
    said = world.condition("Progressing")["message"]
    assert said.startswith("spec.server.autoscaling measures the CPU")
    metric = {"type": "Pods", "pods": {"metric": {"name": "queue"}}}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 600}}
    more = {"maxReplicas": 8, "metrics": [metric], "behavior": behavior}
    world.edit(server={"autoscaling": more})
    world.serve(1)
    spec = world.obj(SCALER, f"{NAME}-v1")["spec"]
    assert (spec["metrics"], spec["behavior"]) == ([metric], behavior)
    more = {**more, "cpuUtilizationPercent": 50}
    world.edit(server={**SCALED, "autoscaling": more})
    world.run()
    first, second = world.obj(SCALER, f"{NAME}-v1")["spec"]["metrics"]
    assert first["containerResource"]["target"]["averageUtilization"] == 50
    assert second == metric


@pytest.mark.parametrize("kind", [BUDGET, SCALER])
def test_a_taken_name_is_told_where_the_name_is_needed(kind: str):
    world = World()
    labels = {"policyops.dev/deployment": NAME, "policyops.dev/version": "1"}
    meta = {"name": f"{NAME}-v1", "namespace": "ml", "labels": labels}
    theirs = world.create({"kind": kind, "metadata": meta, "spec": {"theirs": True}})
    world.serve(1)
    assert world.status["state"] == "Promoted"
    world.edit(server=copy.deepcopy(SCALED))
    world.run_some()
    assert world.status["state"] == "NameConflict"
    assert world.condition("Progressing")["message"].startswith(f"{kind} {NAME}-v1 exists and has")
    assert world.obj(kind, f"{NAME}-v1") == theirs
    assert world.split() == {1: 100}
    assert len(names(world, BUDGET)) == len(names(world, SCALER)) == 1
