"""What servers are told: written before they start, and changed without a word to their pods."""

import copy
from typing import Any

from policy_api.contract.serving import parse_serving
from rollout_world import NAME, World

CONFIG_MAP = f"{NAME}-serving"
HYBRID: dict[str, Any] = {
    "mode": "Hybrid",
    "minConfidence": 0.7,
    "autoApprove": {"minConfidence": 0.9, "actions": ["scale"]},
    "baseline": {"strategy": "HighestSuccess"},
    "exploration": {"epsilon": 0.05},
    "timeoutMilliseconds": 250,
}


def told(world: World) -> dict[str, Any]:
    """Return what the servers of a world read."""
    text = world.obj("ConfigMap", CONFIG_MAP)["data"]["serving.json"]
    config, strange = parse_serving(text.encode())
    assert strange is None
    return config.to_wire()


def test_it_is_there_before_the_first_server():
    world = World()
    world.edit(**HYBRID)
    world.run()
    made = [(kind, name) for verb, kind, name in world.writes if verb == "apply"]
    assert made.index(("ConfigMap", CONFIG_MAP)) < made.index(("Deployment", f"{NAME}-v1"))
    assert told(world) == HYBRID
    assert world.obj("ConfigMap", CONFIG_MAP)["metadata"]["ownerReferences"][0]["name"] == NAME


def test_a_change_reaches_the_file_and_no_pod():
    world = World()
    world.serve(1)
    assert told(world) == {}
    before = copy.deepcopy(world.obj("Deployment", f"{NAME}-v1"))
    for change in (HYBRID, {"mode": "Primary", "timeoutMilliseconds": 1}):
        world.edit(**change)
        world.run()
        assert told(world).items() >= change.items()
        found = world.obj("Deployment", f"{NAME}-v1")
        assert found["spec"] == before["spec"]
        assert found["metadata"]["generation"] == before["metadata"]["generation"]
    writes = len(world.writes)
    world.run()
    assert len(world.writes) == writes, "at rest nothing is written"


def test_what_somebody_deletes_is_written_again():
    world = World()
    world.edit(**HYBRID)
    world.serve(1)
    world.cache.remove("ConfigMap", world.obj("ConfigMap", CONFIG_MAP))
    world.run()
    assert told(world) == HYBRID


def test_the_pod_starts_without_the_file_and_sees_it_renewed():
    world = World()
    world.serve(1)
    pod = world.obj("Deployment", f"{NAME}-v1")["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "serving"]
    assert volume["configMap"] == {"name": CONFIG_MAP, "optional": True}
    (server,) = pod["containers"]
    (mount,) = [m for m in server["volumeMounts"] if m["name"] == "serving"]
    assert "subPath" not in mount, "the kubelet renews folders alone"
    env = {e["name"]: e["value"] for e in server["env"]}
    assert env["POLICY_SERVING_PATH"] == f"{mount['mountPath']}/serving.json"
