"""Somebody's edit crosses a write of ours: the write is refused, and what was meant happens now.

The resync, which would find a lost edit, is minutes away.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from controlplane import ControlPlane
from integration.client import Api, Obj, until
from integration.kubelet import Kubelet
from integration.monitoring import PlayedPrometheus
from integration.objects import training
from integration.operator_process import OperatorProcess
from integration.proxy import Loop, Proxy
from integration.rollout import Alertmanager, Rollout
from policy_operator.machinery.errors import Conflict
from policy_operator.machinery.kube import Kube, load_configuration

pytestmark = pytest.mark.usefixtures("node", "gateway")

SOON = 20.0  # seconds; a resync comes after 300
KINDS = {"ConfigMap": "mine", "PolicyTraining": "forge"}


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """Runs the proxies."""
    made = Loop()
    yield made
    made.stop()


@pytest.fixture
def proxy(api: Api, namespace: str, loop: Loop) -> Iterator[Proxy]:
    """The operator's way to the API server."""
    made = Proxy(api, namespace)
    loop.call(made.start())
    yield made
    loop.call(made.stop())


@pytest.fixture
def crossed_operator(
    proxy: Proxy, namespace: str, prometheus: PlayedPrometheus, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator of the test's own behind the proxy."""
    env = {"POLICYOPS_PROMETHEUS_URL": prometheus.url}
    process = OperatorProcess(proxy.kubeconfig(tmp_path / "kubeconfig"), namespace, tmp_path, env)
    process.start()
    process.wait_ready()
    yield process
    process.stop()
    assert not process.tracebacks(), process.tracebacks()


def test_a_suspension_that_crosses_a_status_write_is_obeyed(
    api: Api,
    namespace: str,
    proxy: Proxy,
    crossed_operator: OperatorProcess,
    kubelet: Kubelet,
    status: Callable[..., Obj],
) -> None:
    def suspend() -> None:
        api.patch("PolicyTraining", namespace, "forge", {"spec": {"suspend": True}})

    api.create(training(namespace))
    kubelet.unschedulable("forge-0", "0 of 1 nodes")
    status("Unschedulable")
    proxy.cross("/policytrainings/forge/status", suspend)
    kubelet.unschedulable("forge-0", "0 of 2 nodes")  # one piece of news, and none after it
    until("they crossed", lambda: proxy.crossed, seconds=SOON)
    until(
        "the Job is suspended",
        lambda: api.get("Job", namespace, "forge-0")["spec"]["suspend"],
        seconds=SOON,
    )


def test_a_target_that_crosses_a_status_write_is_followed_and_waited_for(
    api: Api, namespace: str, proxy: Proxy, crossed_operator: OperatorProcess
) -> None:
    """Whom the deployment waits for now is learnt from the conflict: that one's news wakes it."""
    rollout = Rollout(api, namespace)
    rollout.serve()

    def wait_for_a_training() -> None:
        rollout.edit({"spec": {"target": {"version": None, "training": {"name": "later"}}}})

    proxy.cross("/policydeployments/forge/status", wait_for_a_training)
    rollout.edit({"spec": {"rollback": {"watchAfterPromotionSeconds": 301}}})
    until("they crossed", lambda: proxy.crossed, seconds=SOON)
    waiting = rollout.wait("TargetNotFound", seconds=SOON)["conditions"]
    api.create(training(namespace, "later"))
    until("there it is", lambda: rollout.status["conditions"] != waiting, seconds=SOON)
    assert rollout.status["state"] == "WaitingForTraining"


def test_a_rollback_that_crosses_the_gateways_word_is_not_delayed(
    api: Api, namespace: str, proxy: Proxy, crossed_operator: OperatorProcess
) -> None:
    rollout = Rollout(api, namespace)
    hold = {"steps": [{"name": "canary", "weight": 10, "holdSeconds": 3600}]}
    rollout.serve(rollout=hold)
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Canary", stable=1, candidate=2)

    def word() -> None:
        route = api.get("HTTPRoute", namespace, "forge")
        parents = route["status"]["parents"]
        parents[0]["conditions"][0]["message"] = "said again"
        api.patch_status("HTTPRoute", namespace, "forge", {"parents": parents})

    def writes() -> list[str]:
        return [w.rsplit(" ", 1)[1] for w in proxy.writes if "httproutes/forge" in w]

    before = len(writes())
    proxy.cross("/httproutes/forge", word)
    alertmanager = Alertmanager(api, crossed_operator)
    alertmanager.notify(namespace, version=2)
    alertmanager.close()
    assert rollout.weights() == {1: 100, 2: 0}, "2xx means that it is written"
    assert proxy.crossed
    assert writes()[before : before + 2] == ["409", "200"]
    rollout.wait("RolledBack", stable=1)


@pytest.fixture
def kube(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Kube], Coroutine[Any, Any, None]]], list[Obj]]:
    """Run calls of the operator's own client; return what it told the cache."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))

    def play(story: Callable[[Kube], Coroutine[Any, Any, None]]) -> list[Obj]:
        told: list[Obj] = []

        async def run() -> None:
            client = Kube(
                await load_configuration(), lambda _kind, obj, _expected: told.append(obj)
            )
            try:
                await story(client)
            finally:
                await client.close()

        asyncio.run(run())
        return told

    return play


@pytest.mark.parametrize("recreated", [False, True])
def test_the_api_server_refuses_every_write_that_was_decided_on_another_state(
    api: Api, namespace: str, kube: Callable[..., list[Obj]], recreated: bool
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine", "namespace": namespace},
        "data": {"edit": "1"},
    }
    objects = {"ConfigMap": config, "PolicyTraining": training(namespace)}
    for obj in objects.values():
        api.create(obj)

    async def story(client: Kube) -> None:
        for kind, name in KINDS.items():
            seen = await client.get(kind, namespace, name)
            assert seen is not None
            if recreated:
                api.delete(kind, namespace, name)
                api.gone(kind, namespace, name)
                api.create(objects[kind])
            else:
                note = {"metadata": {"annotations": {"note": "theirs"}}}
                api.patch(kind, namespace, name, note)
            if kind == "ConfigMap":
                mine = {**config, "data": {"edit": "2"}}
                with pytest.raises(Conflict):
                    await client.apply(mine, seen=seen)
                with pytest.raises(Conflict):
                    await client.merge_patch(kind, namespace, name, {"data": None}, seen=seen)
            else:
                with pytest.raises(Conflict):
                    await client.patch_status(kind, seen, {"state": "Training"})

    told = kube(story)
    assert api.get("ConfigMap", namespace, "mine")["data"] == {"edit": "1"}
    assert "status" not in api.get("PolicyTraining", namespace, "forge")
    newest = {kind: api.get(kind, namespace, name) for kind, name in KINDS.items()}
    for kind, obj in newest.items():
        versions = [o["metadata"]["resourceVersion"] for o in told if o["kind"] == kind]
        assert obj["metadata"]["resourceVersion"] == versions[-1], "it was read anew"
