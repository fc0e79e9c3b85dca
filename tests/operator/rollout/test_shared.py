"""Who reaches the servers, and who scrapes them: compared with what was once looked at."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rollout_world import NAME, World

GOLDEN = Path(__file__).parent / "golden" / "networkpolicies.yaml"
CASES: dict[str, dict[str, Any]] = yaml.safe_load(GOLDEN.read_text())


def names(world: World, kind: str) -> list[str]:
    return [o["metadata"]["name"] for o in world.cache.list(kind, "ml")]


@pytest.mark.parametrize("name", CASES)
def test_a_network_policy_is_as_recorded(name: str):
    case, world = CASES[name], World()
    world.edit(server={"networkPolicy": case["networkPolicy"]})
    world.serve(1)
    made = world.obj("NetworkPolicy", NAME)
    assert made["spec"] == case["made"]
    assert made["metadata"]["ownerReferences"][0]["name"] == NAME
    labels = world.obj("Deployment", f"{NAME}-v1")["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_it_comes_and_goes_with_the_field_and_restarts_no_pod():
    world = World()
    world.serve(1)
    assert names(world, "NetworkPolicy") == []
    before = world.obj("Deployment", f"{NAME}-v1")["spec"]
    world.edit(server={"networkPolicy": {}})
    world.run()
    assert names(world, "NetworkPolicy") == [NAME]
    world.edit(server={"networkPolicy": {"metricsNamespaces": ["monitoring"]}})
    world.run()
    (rule,) = world.obj("NetworkPolicy", NAME)["spec"]["ingress"]
    assert "monitoring" in str(rule)
    world.edit(server={})
    world.run()
    assert names(world, "NetworkPolicy") == []
    assert world.obj("Deployment", f"{NAME}-v1")["spec"] == before


def test_it_is_there_before_the_first_server():
    world = World()
    world.edit(server={"networkPolicy": {}})
    world.serve(1)
    made = [(kind, name) for verb, kind, name in world.writes if verb == "apply"]
    assert made.index(("NetworkPolicy", NAME)) < made.index(("Deployment", f"{NAME}-v1"))


def test_a_pod_monitor_where_there_is_such_a_kind():
    world = World()
    world.serve(1)
    assert names(world, "PodMonitor") == []
    world.apis = {"podmonitors"}
    world.run()
    spec = world.obj("PodMonitor", NAME)["spec"]
    assert spec == {
        "selector": {"matchLabels": {"policyops.dev/deployment": NAME}},
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}],
    }
    pod = world.obj("Deployment", f"{NAME}-v1")["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["ports"][0]["name"] == "http"


@pytest.mark.parametrize("kind", ["NetworkPolicy", "PodMonitor"])
def test_a_taken_name_stops_nothing_else(kind: str):
    world = World(apis={"podmonitors"})
    world.edit(server={"networkPolicy": {}})
    world.hide({"kind": kind, "metadata": {"name": NAME}, "spec": {"theirs": True}})
    for _ in range(10):
        world.settle()
        world.reconcile()
        world.advance(5)
    assert world.status["state"] == "NameConflict"
    assert world.condition("Progressing")["message"].startswith(f"{kind} {NAME} exists")
    assert world.split() == {1: 100}
    assert world.hidden[kind, NAME]["spec"] == {"theirs": True}
