"""A small world for a PolicyDeployment: an API server in memory and its controllers.

The operator's own code runs unchanged against it (reconcile, observe, decide); what is played are
the API server's answers, pods that become ready, and the Gateway's controller. A write can be made
the operator's last one, as if it were killed there.
"""

import asyncio
import contextlib
import copy
import functools
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from policy_api.base import rfc3339
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import AlreadyExists, ApiError, Conflict
from policy_operator.machinery.events import Event
from policy_operator.machinery.queue import Key
from policy_operator.monitoring.types import Monitoring, Signal
from policy_operator.rollout import rules, webhook
from policy_operator.rollout.reconcile import reconcile
from policy_operator.rollout.types import PolicyDeployment

NS, NAME, POLICY = "ml", "review-forge", "review-forge"
KEY = Key("PolicyDeployment", NS, NAME)
Result = TypeVar("Result")
START = datetime(2026, 1, 1, tzinfo=UTC)


class KilledError(BaseException):
    """The operator was killed before this write."""


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on a loop of its own, which is a good deal cheaper to keep than to make."""
    return _loop().run(work)


@functools.cache
def _loop() -> asyncio.Runner:
    return asyncio.Runner()


def spec(**update: Any) -> dict[str, Any]:
    """Return a spec with the API server's defaults in it."""
    base = {
        "policy": POLICY,
        "target": {"version": 1},
        "traffic": {
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["review.example.com"],
        },
        "rollout": {
            "steps": [
                {"name": "canary", "weight": 10, "holdSeconds": 10},
                {"name": "half", "weight": 50, "holdSeconds": 10},
            ],
            "progressDeadlineSeconds": 60,
        },
        "alerts": [{"name": "HighErrorRate", "preset": "ErrorRate", "max": 0.05}],
        "rollback": {"watchAfterPromotionSeconds": 300},
    }
    return PolicyDeploymentSpec.model_validate({**base, **update}).to_wire()


@dataclass
class World:
    """Everything outside of the operator's code."""

    now: datetime = START
    cache: Cache = field(default_factory=Cache)
    versions: tuple[int, ...] = (1, 2, 3)
    dead: set[int] = field(default_factory=set)
    """Versions whose pods do not become ready."""
    gateway: bool = True
    """Whether the Gateway's controller takes routes up."""
    gateway_api: bool = True
    """Whether the cluster has HTTPRoutes."""
    apis: set[str] = field(default_factory=set)
    """Plurals that the cluster has beside HTTPRoutes."""
    monitoring: Monitoring = field(default_factory=lambda: Monitoring(True, "Reachable"))
    blind: bool = False
    """Whether Prometheus has not loaded the rules."""
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    kill_at: int | None = None
    """Number of the write that is not done any more."""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    weights: list[dict[int, int]] = field(default_factory=list)
    """Every split that the route ever had."""
    denied: set[str] = field(default_factory=set)
    """Kinds that we may not read."""
    last_check: datetime | None = None
    ahead: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """What the API server has and the cache does not know yet."""
    hidden: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Objects that the API server has and no watch of ours tells of, by kind and name."""

    refusal: ApiError | None = None
    """What the API server says to every dry-run."""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self.hurried = False
        self.ctx: Any = SimpleNamespace(
            cache=self.cache,
            kube=self,
            monitor=self,
            events=self,
            queue=SimpleNamespace(
                add_at=lambda key, when: None,
                forget=lambda key: None,
                give_way=contextlib.nullcontext,
            ),
            settings=SimpleNamespace(server_image="policyops/server:dev"),
            unreadable=self.unreadable,
        )
        for version in self.versions:
            self.add_version(version)
        self.create(
            {
                "apiVersion": "policyops.dev/v1alpha1",
                "kind": "PolicyDeployment",
                "metadata": {"name": NAME, "namespace": NS},
                "spec": spec(),
            }
        )

    # -- an API server ------------------------------------------------------------------------

    def _put(self, obj: dict[str, Any]) -> dict[str, Any]:
        obj["metadata"]["resourceVersion"] = str(next(self._numbers))
        assert self.cache.put(obj["kind"], obj)
        return obj

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        obj = copy.deepcopy(manifest)
        obj["metadata"] = {**obj["metadata"], "uid": f"u{next(self._numbers)}", "generation": 1}
        return self._put(obj)

    def change(self, kind: str, name: str, **update: Any) -> None:
        """Change parts of an object as some controller or person does."""
        obj = copy.deepcopy(self.cache.get(kind, NS, name))
        assert obj is not None
        if "spec" in update and update["spec"] != obj["spec"]:
            obj["metadata"]["generation"] += 1
        if "annotations" in update:
            obj["metadata"]["annotations"] = update.pop("annotations")
        self._put({**obj, **update})

    def _write(self, verb: str, kind: str, name: str) -> None:
        if self.kill_at is not None and len(self.writes) >= self.kill_at:
            raise KilledError
        self.writes.append((verb, kind, name))

    def unseen(self, kind: str, name: str, **update: Any) -> None:
        """Change an object, and let the watch tell of it later: the cache does not know yet."""
        cache, self.cache = self.cache, copy.deepcopy(self.cache)
        self.change(kind, name, **update)
        self.ahead[kind, name] = self.obj(kind, name)
        self.cache = cache

    def _test(self, kind: str, name: str, seen: dict[str, Any] | None) -> None:
        """Refuse a write that was decided on an older state, as kube.py does."""
        newer = self.ahead.pop((kind, name), None)
        if newer is not None:
            self.cache.put(kind, newer)
        have = self.cache.get(kind, NS, name)
        if seen is None or have is None:
            return
        if any(have["metadata"][f] != seen["metadata"][f] for f in ("uid", "resourceVersion")):
            raise Conflict(409, "Conflict", "the object has been modified", "PATCH")

    def hide(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object of somebody else's, without the label that our watches ask for."""
        obj = copy.deepcopy(manifest)
        number = str(next(self._numbers))
        obj["metadata"] = {"namespace": NS, "uid": f"u{number}", **obj["metadata"]}
        self.hidden[obj["kind"], obj["metadata"]["name"]] = obj
        return obj

    async def apply(
        self, manifest: dict[str, Any], *, seen: dict[str, Any] | None, dry_run: bool = False
    ) -> dict[str, Any]:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if dry_run:
            if self.refusal is not None:
                raise self.refusal
            return manifest
        if (kind, name) not in self.hidden:
            self._test(kind, name, seen)
        self._write("apply", kind, name)
        old = self.hidden.get((kind, name)) or self.cache.get(kind, NS, name)
        if seen is None:
            if old is not None:
                raise AlreadyExists(409, "AlreadyExists", f"{name} exists", "APPLY")
            return self._applied(self.create(manifest))
        if old is None or old["metadata"]["uid"] != seen["metadata"]["uid"]:
            raise Conflict(409, "Conflict", "another object", "APPLY")
        meta = {**old["metadata"], **copy.deepcopy(manifest["metadata"])}
        meta["generation"] += manifest.get("spec") != old.get("spec")
        return self._applied(self._put({**old, **copy.deepcopy(manifest), "metadata": meta}))

    def _applied(self, obj: dict[str, Any]) -> dict[str, Any]:
        if obj["kind"] == "HTTPRoute":
            self.weights.append(self.split())
        return obj

    async def patch_status(self, kind: str, seen: dict[str, Any], status: dict[str, Any]) -> None:
        name = seen["metadata"]["name"]
        self._test(kind, name, seen)
        self._write("status", kind, name)
        obj = self.obj(kind, name)
        self._put({**copy.deepcopy(obj), "status": status})

    async def delete(self, kind: str, ns: str, name: str, *, uid: str | None = None) -> None:
        self._write("delete", kind, name)
        obj = self.cache.get(kind, ns, name)
        if obj is not None and uid in (None, obj["metadata"]["uid"]):
            self.cache.remove(kind, obj)

    async def get(
        self, kind: str, ns: str, name: str, *, remember: bool = True
    ) -> dict[str, Any] | None:
        if not remember:
            return self.hidden.get((kind, name)) or self.cache.get(kind, ns, name)
        assert (kind, ns, name) == ("Gateway", "gateways", "public")
        listener = {"name": "http", "protocol": "HTTP", "port": 80}
        return {"spec": {"listeners": [listener]}, "status": {}}

    def remember(self, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.cache.put(kind, obj)
        return obj

    def unreadable(self, namespace: str, *kinds: str) -> str | None:
        return next((f"{k} is forbidden" for k in kinds if k in self.denied), None)

    async def has_api(self, group: str, version: str, plural: str) -> bool:
        return self.gateway_api if plural == "httproutes" else plural in self.apis

    def emit(self, obj: dict[str, Any], event: Event) -> None:
        self.events.append(event)

    # -- Prometheus ---------------------------------------------------------------------------

    def about(self, namespace: str, name: str, now: datetime) -> Monitoring:
        checksum = None if self.blind else rules.group(self.pdep)[1]
        return replace(self.monitoring, rules=checksum)

    def hurry(self) -> None:
        self.hurried = True

    # -- controllers --------------------------------------------------------------------------

    def add_version(self, version: int, *, accepted: bool = True) -> None:
        """Record a version, as a training does."""
        condition = {
            "type": "Accepted",
            "status": "True" if accepted else "False",
            "reason": "ExitCriteriaMet" if accepted else "ExitCriteriaUnmet",
            "message": "",
            "lastTransitionTime": rfc3339(self.now),
        }
        self.create(
            {
                "apiVersion": "policyops.dev/v1alpha1",
                "kind": "PolicyVersion",
                "metadata": {
                    "name": f"{POLICY}-v{version}",
                    "namespace": NS,
                    "labels": {"policyops.dev/policy": POLICY},
                },
                "spec": {
                    "policy": POLICY,
                    "version": version,
                    "artifact": {"uri": f"pvc://models/{POLICY}/{version}", "sha256": "a" * 64},
                    "training": {"name": f"train-{version}", "uid": "x"},
                    "recipe": "GRPO",
                },
                "status": {"conditions": [condition]},
            }
        )

    def settle(self) -> None:
        """Let pods become ready or not, and the Gateway's controller look at the route."""
        for obj in self.cache.list("Deployment", NS):
            if "replicas" not in obj["spec"]:
                continue  # somebody else's
            version = int(obj["metadata"]["labels"]["policyops.dev/version"])
            count = 0 if version in self.dead else obj["spec"]["replicas"]
            status = {
                "observedGeneration": obj["metadata"]["generation"],
                "replicas": obj["spec"]["replicas"],
                "updatedReplicas": obj["spec"]["replicas"],
                "availableReplicas": count,
            }
            self.change("Deployment", obj["metadata"]["name"], status=status)
            self._slice(version, count)
        route = self.cache.get("HTTPRoute", NS, NAME)
        if route is not None and self.gateway and "parentRefs" in route["spec"]:
            generation = route["metadata"]["generation"]
            conditions = [
                {"type": kind, "status": "True", "reason": kind, "observedGeneration": generation}
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parents = [
                {"parentRef": ref, "controllerName": "x", "conditions": conditions}
                for ref in route["spec"]["parentRefs"]
            ]
            self.change("HTTPRoute", NAME, status={"parents": parents})

    def _slice(self, version: int, count: int) -> None:
        name = f"{NAME}-v{version}-slice"
        endpoints = [
            {"addresses": [f"10.0.{version}.{i}"], "conditions": {"ready": True}}
            for i in range(count)
        ]
        if self.cache.get("EndpointSlice", NS, name) is None:
            labels = {"policyops.dev/deployment": NAME, "policyops.dev/version": str(version)}
            meta = {"name": name, "namespace": NS, "labels": labels}
            self.create({"kind": "EndpointSlice", "metadata": meta, "endpoints": endpoints})
        self.change("EndpointSlice", name, endpoints=endpoints)

    # -- a person's hand ----------------------------------------------------------------------

    def edit(self, **update: Any) -> None:
        """Change fields of the spec."""
        have = self.obj("PolicyDeployment", NAME)["spec"]
        self.change("PolicyDeployment", NAME, spec={**have, **update})

    def target(self, version: int) -> None:
        self.edit(target={"version": version})

    def annotate(self, **annotations: str) -> None:
        full = {f"policyops.dev/{k}": v for k, v in annotations.items()}
        self.change("PolicyDeployment", NAME, annotations=full)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # -- the operator -------------------------------------------------------------------------

    def reconcile(self, *signals: Signal) -> int:
        """Run one reconcile; return how many writes it made."""
        before = len(self.writes)
        self.last_check = _run(reconcile(KEY, self.ctx, self.now, signals))
        return len(self.writes) - before

    def post(self, payload: bytes) -> None:
        """Deliver a webhook."""
        _run(webhook.handle(payload, self.ctx, self.now))

    def run(self, rounds: int = 30) -> None:
        """Reconcile and let controllers work until nothing changes at this time."""
        for _ in range(rounds):
            self.settle()
            if self.reconcile() == 0:
                return
        raise AssertionError(f"no fixed point: {self.writes[-10:]}")

    def run_some(self, rounds: int = 5) -> None:
        """Reconcile a few times where each one tries a write that is refused."""
        for _ in range(rounds):
            self.settle()
            self.reconcile()

    def serve(self, version: int, limit: int = 50) -> None:
        """Roll a version out to the end."""
        self.target(version)
        for _ in range(limit):
            self.run()
            if self.status["state"] == "Promoted" and self.status["stable"]["version"] == version:
                return
            self.advance(5)
        raise AssertionError(f"not promoted: {self.status}")

    # -- what to look at ----------------------------------------------------------------------

    def obj(self, kind: str, name: str) -> dict[str, Any]:
        found = self.cache.get(kind, NS, name)
        assert found is not None, f"no {kind} {name}"
        return found

    @property
    def pdep(self) -> PolicyDeployment:
        return PolicyDeployment.parse(self.obj("PolicyDeployment", NAME))

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.obj("PolicyDeployment", NAME)["status"]
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found

    def version_condition(self, version: int, kind: str) -> dict[str, Any] | None:
        obj = self.obj("PolicyVersion", f"{POLICY}-v{version}")
        return next((c for c in obj["status"]["conditions"] if c["type"] == kind), None)

    def serving(self, version: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.obj("PolicyVersion", f"{POLICY}-v{version}")[
            "status"
        ].get("serving", [])
        return found

    def split(self) -> dict[int, int]:
        """Return the route's weights by version, which are those of each of its rules."""
        route = self.cache.get("HTTPRoute", NS, NAME)
        if route is None:
            return {}
        first, *others = (
            {int(r["name"].rsplit("-v", 1)[1]): r["weight"] for r in rule["backendRefs"]}
            for rule in route["spec"]["rules"]
        )
        assert all(split == first for split in others)
        return first

    def servers(self) -> set[int]:
        return {
            int(o["metadata"]["labels"]["policyops.dev/version"])
            for o in self.cache.list("Deployment", NS)
        }

    def alert(self, version: int | None, *, name: str = "HighErrorRate", ago: float = 0) -> Signal:
        """Return an alert that fires since some seconds."""
        since = self.now - timedelta(seconds=ago)
        return Signal(
            name=name,
            firing=True,
            since=since,
            version=version,
            labelled=version is not None,
            message="42% of the decisions failed over 60 s",
        )
