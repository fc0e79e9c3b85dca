"""Nothing that we did not make is ever written or deleted, whatever kind it is of.

All cases are played at once, each in a namespace of its own, by one operator.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import pytest
from controlplane import ControlPlane
from integration import foreign
from integration.client import Api, condition, new_namespace, until
from integration.kubelet import Kubelet
from integration.objects import completed, training
from integration.rollout import Rollout
from policy_api.keys import LABEL_MANAGED_BY
from policy_operator import ownership
from policy_operator.children import owned
from policy_operator.context import Context
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import AlreadyExists, Conflict
from policy_operator.machinery.kube import Kube, load_configuration
from policy_operator.rollout.seen import Seen
from policy_operator.rollout.types import ApplyRules

Obj = dict[str, Any]
Case = tuple[str, str, str, bool]

_NAMES = [
    ("PolicyDeployment", "HTTPRoute", "forge"),
    ("PolicyDeployment", "Deployment", "forge-v1"),
    ("PolicyDeployment", "Service", "forge-v1"),
    ("PolicyDeployment", "PodDisruptionBudget", "forge-v1"),
    ("PolicyDeployment", "HorizontalPodAutoscaler", "forge-v1"),
    ("PolicyDeployment", "NetworkPolicy", "forge"),
    ("PolicyDeployment", "ConfigMap", "forge-rules"),
    ("PolicyDeployment", "ConfigMap", "forge-serving"),
    ("PolicyTraining", "Job", "forge-0"),
    ("PolicyTraining", "ConfigMap", "forge-0"),
    ("PolicyTraining", "Service", "forge-0"),
    ("PolicyTraining", "ConfigMap", "forge-versions"),
]
CASES: list[Case] = [(*names, ours) for names in _NAMES for ours in (False, True)]
SERVER: Obj = {
    "resources": {"requests": {"cpu": "10m"}},
    "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
    "networkPolicy": {},
}
SECONDS = 180.0  # all cases share two cores


def message(api: Api, kind: str, namespace: str) -> str:
    """Return what the condition of our object says while a name is taken."""
    found = api.get(kind, namespace, "forge")
    deployment = kind == "PolicyDeployment"
    said = condition(found, "Progressing" if deployment else "Running")
    assert said["reason"] == ("NameConflict" if deployment else "Refused"), found["status"]
    text: str = said["message"]
    return text


def begin(api: Api, owner: str, namespace: str, name: str) -> None:
    """Make our object, and bring it to where it needs the name."""
    if owner == "PolicyDeployment":
        Rollout(api, namespace).create(server=SERVER)
        return
    nodes = 2 if name == "forge-0" else 1
    api.create(training(namespace, compute={"nodes": nodes}))
    if name == "forge-versions":
        Kubelet(api, namespace).end("forge-0", 0, completed(1))


def play(api: Api, case: Case) -> None:
    """Take a name first; our object comes, goes, comes again; then the name becomes free."""
    owner, kind, name, ours = case
    namespace = new_namespace(api, "foreign")
    before, whose = foreign.make(api, kind, namespace, name, ours=ours)
    if owner == "PolicyDeployment":
        Rollout(api, namespace).register(1)
    begin(api, owner, namespace, name)

    def told() -> bool:
        text = message(api, owner, namespace)
        assert f"{kind} {name} exists and {whose}: delete or rename it" in text, text
        return True

    def untouched() -> None:
        assert api.get(kind, namespace, name) == before

    until(f"{case} is told", told, seconds=SECONDS)
    untouched()
    uid = api.get(owner, namespace, "forge")["metadata"]["uid"]
    if name != "forge-versions":  # a training whose end is lost with it
        api.delete(owner, namespace, "forge")
        for each in ("Deployment", "HTTPRoute", "Job", "Service", "ConfigMap"):
            until(
                f"our {each}s of {case} are collected",
                lambda each=each: not any(owned(o, uid) for o in api.list(each, namespace)),
                seconds=SECONDS,
            )
        untouched()
        begin(api, owner, namespace, name)
        until(f"{case} is told again", told, seconds=SECONDS)
        untouched()
    api.delete(kind, namespace, name)

    def made() -> bool:
        new = api.get(kind, namespace, name)
        assert new["metadata"]["uid"] != before["metadata"]["uid"]
        if name == "forge-versions":
            assert new["data"] == {"highestVersion": "1"}
            state = api.get(owner, namespace, "forge")["status"]["state"]
            return bool(state == "Succeeded")
        assert owned(new, api.get(owner, namespace, "forge")["metadata"]["uid"])
        status: Obj = api.get(owner, namespace, "forge")["status"]
        return owner == "PolicyTraining" or status["state"] == "Promoted"

    until(f"{case} goes on by itself", made, seconds=SECONDS)
    api.delete("Namespace", None, namespace)


@pytest.fixture(scope="module")
def played(api: Api, operator: object, node: object, gateway: object) -> Iterator[Any]:
    """All cases, under way."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {case: pool.submit(play, api, case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[1]}-{c[2]}-{'ours' if c[3] else 'own'}")
def test_a_taken_name_is_told_left_alone_and_used_once_it_is_free(
    played: dict[Case, Future[None]], case: Case
) -> None:
    played[case].result(4 * SECONDS)


# The writes themselves, against the real API server: a read says nothing about the next write.

KINDS = ("HTTPRoute", "Service", "Deployment", "ConfigMap")


@dataclass
class Operator:
    """As much of an operator as a write needs."""

    kube: Kube
    cache: Cache

    async def write(self, manifest: Obj, owner: str) -> Obj:
        """Decide on what the cache has, and write; again where it was other than that."""
        for _ in range(5):
            with contextlib.suppress(Conflict):
                return await self.carry_out(self.decide(manifest, owner), manifest)
        raise AssertionError("it does not settle")

    def decide(self, manifest: Obj, owner: str) -> Seen:
        """Look at what is about to be written."""
        return Seen.of(owner, self.cache, (ApplyRules(manifest),))

    async def carry_out(self, seen: Seen, manifest: Obj) -> Obj:
        """Write what was decided earlier."""
        await seen.write(manifest, cast(Context, self))
        meta = manifest["metadata"]
        found = self.cache.get(manifest["kind"], meta["namespace"], meta["name"])
        assert found is not None
        return found


@pytest.fixture
async def ours(
    control_plane: ControlPlane, gateway: object, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Operator]:
    """An operator's own client; no watch fills its cache."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    cache = Cache()
    kube = Kube(await load_configuration(), lambda kind, obj, _: cache.put(kind, obj) and None)
    yield Operator(kube, cache)
    await kube.close()


def child(api: Api, kind: str, namespace: str) -> tuple[Obj, str]:
    """Return a child as we would make it, and the uid of its owner, which is there."""
    owner = api.find("ConfigMap", namespace, "owner") or api.create(
        foreign.theirs("ConfigMap", namespace, "owner")
    )
    uid: str = owner["metadata"]["uid"]
    made = foreign.theirs(kind, namespace, "forge")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    made["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    made["metadata"]["labels"] = {LABEL_MANAGED_BY: "policy-operator", "old": "yes"}
    return made, uid


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_is_made_changed_and_loses_fields(
    api: Api, ours: Operator, namespace: str, kind: str
) -> None:
    wanted, uid = child(api, kind, namespace)
    made = await ours.write(wanted, uid)
    del wanted["metadata"]["labels"]["old"]
    wanted.get("spec", {}).pop("hostnames", None)
    changed = await ours.write(wanted, uid)
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    assert "old" not in changed["metadata"]["labels"]
    assert "hostnames" not in changed.get("spec", {})
    # One that the cache does not have is decided on again, with what there is.
    ours.cache.remove(kind, changed, version=0)
    with pytest.raises(Conflict):
        await ours.carry_out(ours.decide(wanted, uid), wanted)
    again = await ours.write(wanted, uid)
    assert again["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_that_somebody_replaces_between_our_read_and_our_write_is_left_alone(
    api: Api, ours: Operator, namespace: str, kind: str
) -> None:
    wanted, uid = child(api, kind, namespace)
    made = await ours.write(wanted, uid)
    seen = ours.decide(wanted, uid)
    api.delete(kind, namespace, "forge")
    theirs = foreign.kept(api.create(foreign.theirs(kind, namespace, "forge")))
    with pytest.raises(ownership.Taken, match=f"{kind} forge exists and was written by"):
        await ours.carry_out(seen, wanted)
    with pytest.raises(AlreadyExists):
        await ours.kube.apply(wanted, seen=None)
    with pytest.raises(Conflict):
        await ours.kube.apply(wanted, seen=made)
    # At the version that it has, it is still another object.
    version = api.get(kind, namespace, "forge")["metadata"]["resourceVersion"]
    meta = {**made["metadata"], "resourceVersion": version}
    with pytest.raises(Conflict):
        await ours.kube.apply(wanted, seen={**made, "metadata": meta})
    await ours.kube.delete(kind, namespace, "forge", uid=made["metadata"]["uid"])
    assert foreign.kept(api.get(kind, namespace, "forge")) == theirs
    api.delete(kind, namespace, "forge")
    api.gone(kind, namespace, "forge")
    with pytest.raises(Conflict):
        await ours.kube.apply(wanted, seen=made)
    assert api.find(kind, namespace, "forge") is None, "what is gone is not made by a later write"
    assert owned(await ours.write(wanted, uid), uid)


async def test_a_job_that_somebody_replaces_is_not_suspended(
    api: Api, ours: Operator, namespace: str
) -> None:
    running = foreign.theirs("Job", namespace, "forge-0")
    running["spec"]["suspend"] = False
    made = api.create(running)
    api.delete("Job", namespace, "forge-0", propagationPolicy="Background")
    api.gone("Job", namespace, "forge-0")
    theirs = api.create(running)
    stop = {"spec": {"suspend": True}}
    with pytest.raises(Conflict):
        await ours.kube.merge_patch("Job", namespace, "forge-0", stop, seen=made)
    now = api.get("Job", namespace, "forge-0")
    assert now["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert now["spec"]["suspend"] is False


async def test_what_has_no_owner_is_known_by_its_labels(
    api: Api, ours: Operator, namespace: str
) -> None:
    labels = {LABEL_MANAGED_BY: "policy-operator"}
    wanted = foreign.theirs("ConfigMap", namespace, "ca")
    wanted["metadata"]["labels"] = labels
    theirs = api.create(foreign.theirs("ConfigMap", namespace, "ca"))

    async def keep(known: Obj | None, value: str) -> None:
        await ownership.keep(
            ours.kube,
            {**wanted, "data": {"key": value}},
            known,
            lambda found: bool(found["data"]["key"] == value),
        )

    for known in (None, theirs):
        with pytest.raises(ownership.Taken, match="ConfigMap ca exists and was written by"):
            await keep(known, "new")
    assert api.get("ConfigMap", namespace, "ca") == theirs
    api.delete("ConfigMap", namespace, "ca")
    await keep(theirs, "1")
    first = api.get("ConfigMap", namespace, "ca")
    await asyncio.gather(keep(first, "2"), keep(first, "2"))
    assert api.get("ConfigMap", namespace, "ca")["data"] == {"key": "2"}
    # Replaced after it was read: the version that we know is of another object.
    api.delete("ConfigMap", namespace, "ca")
    theirs = api.create(foreign.theirs("ConfigMap", namespace, "ca"))
    with pytest.raises(ownership.Taken):
        await keep(first, "3")
    assert api.get("ConfigMap", namespace, "ca") == theirs
