"""Servers that run keep their pods through an upgrade of the operator."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import kept
from rollout_world import NAME, World

# As an operator wrote it whose server had another image, other probes and no file of settings.
OLDER = Path(__file__).parent / "golden" / "server-of-an-older-operator.json"
SERVER = f"{NAME}-v1"
APPLIED = "policyops.dev/applied"
ANNOTATION = "policyops.dev/pod-template"


def put(world: World, manifests: list[dict[str, Any]]) -> None:
    """Have the API server hold these in place of what is there."""
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        annotations = manifest["metadata"]["annotations"]
        world.change(kind, name, spec=manifest["spec"], annotations=annotations)


def template(world: World, version: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = world.obj("Deployment", f"{NAME}-v{version}")["spec"]["template"]
    return found


@pytest.fixture
def upgraded() -> World:
    """A world in which version 1 serves, by a server of an older operator."""
    world = World()
    world.serve(1)
    put(world, json.loads(OLDER.read_text()))
    return world


def test_an_upgrade_restarts_no_pod_and_a_new_version_gets_the_new_pods(upgraded: World):
    world = upgraded
    before = copy.deepcopy(template(world))
    assert before["spec"]["containers"][0]["image"] == "policyops/server:0.1.0"
    world.run()
    assert template(world) == before
    world.serve(2)
    assert template(world) == before
    assert template(world, 2)["spec"]["containers"][0]["image"] == "policyops/server:dev"


@pytest.mark.parametrize(
    "server",
    [
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"image": "mine:1"},
        {"template": {"metadata": {"annotations": {"restarted": "today"}}}},
    ],
)
def test_a_change_of_the_server_renews_its_pods(upgraded: World, server: dict[str, Any]):
    world, fresh = upgraded, World()
    fresh.edit(server={"replicas": 1, **server})
    fresh.serve(1)
    world.edit(server={"replicas": 1, **server})
    world.run()
    assert template(world) == template(fresh)


def test_scaling_is_no_reason_to_renew_them(upgraded: World):
    world = upgraded
    before = copy.deepcopy(template(world))
    world.edit(server={"replicas": 3})
    world.run()
    assert world.obj("Deployment", SERVER)["spec"]["replicas"] == 3
    assert template(world) == before
    world.change(
        "Deployment", SERVER, spec={**world.obj("Deployment", SERVER)["spec"], "replicas": 7}
    )
    world.run()
    assert world.obj("Deployment", SERVER)["spec"]["replicas"] == 3
    assert template(world) == before


def test_another_image_of_the_operators_own_is_for_the_next_version():
    world = World()
    world.serve(1)
    before, writes = copy.deepcopy(template(world)), len(world.writes)
    world.ctx.settings.server_image = "policyops/server:next"
    world.run()
    assert len(world.writes) == writes
    assert template(world) == before
    world.serve(2)
    assert template(world, 2)["spec"]["containers"][0]["image"] == "policyops/server:next"
    assert template(world) == before


def test_a_field_that_a_newer_api_fills_in_is_no_change():
    world = World()
    record = VersionRecord.parse(world.obj("PolicyVersion", "review-forge-v1"))

    def asked(**custom: int) -> str:
        world.edit(server={"engine": "Custom", "image": "e:1", "custom": custom})
        return kept.asked(world.pdep, record)

    assert asked() == asked(port=8000) != asked(port=8001)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"of": "x"}', '{"of": "x", "template": 1}'])
def test_what_can_not_be_read_is_made_anew(text: str):
    world = World()
    world.serve(1)
    wanted = copy.deepcopy(world.obj("Deployment", SERVER))
    meta = wanted["metadata"]
    world.change(
        "Deployment",
        SERVER,
        spec={**wanted["spec"], "template": {"spec": {}}},
        annotations={**meta["annotations"], APPLIED: "older", ANNOTATION: text},
    )
    assert kept.read(world.obj("Deployment", SERVER)) is None
    world.run()
    assert template(world) == wanted["spec"]["template"]
