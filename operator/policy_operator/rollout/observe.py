"""Read the cache into an Observed: the children, the versions, the alerts."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal

from policy_api import skew
from policy_api.keys import (
    ANNOTATION_ROLLBACK,
    COND_SUCCEEDED,
    LABEL_DEPLOYMENT,
    LABEL_POLICY,
    LABEL_VERSION,
)
from policy_api.rules.conditions import get_condition
from policy_api.v1alpha1.deployment import ParentRef
from policy_api.v1alpha1.training_status import PolicyTrainingStatus

from policy_operator.children import Foreign, owned, stamp_of
from policy_operator.context import Context
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.errors import ApiError
from policy_operator.monitoring.types import Monitoring, Signal
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import kept, peers, routes, rules, scaling, serving
from policy_operator.rollout.types import (
    SERVER_KINDS,
    SHARED_KINDS,
    Observed,
    PolicyDeployment,
    RouteObserved,
    RulesObserved,
    ServerObserved,
    TrainingRecord,
)

log = logging.getLogger(__name__)

RulesKind = Literal["PrometheusRule", "ConfigMap"]

MOST = 400  # characters of what is said of a pod
_CONTAINERS = ("initContainer", "container")
# A container that waits for one of these does not become ready by itself soon.
_STUCK = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
)


def versions(cache: Cache, namespace: str, policy: str) -> dict[int, VersionRecord]:
    """Return the policy's versions by number."""
    objects = cache.list("PolicyVersion", namespace, {LABEL_POLICY: policy})
    records = (VersionRecord.parse(obj) for obj in objects)
    return {record.version: record for record in records}


def training(cache: Cache, namespace: str, name: str | None) -> TrainingRecord | None:
    """Return the PolicyTraining that the target names, if there is one."""
    obj = cache.get("PolicyTraining", namespace, name) if name is not None else None
    if obj is None or name is None:
        return None
    status = skew.read(PolicyTrainingStatus, obj.get("status") or {})
    return TrainingRecord(
        name=name,
        policy=obj["spec"]["policy"],
        version=status.version,
        succeeded=get_condition(status.conditions, COND_SUCCEEDED),
    )


def available(deployment: Obj) -> int:
    """Return how many pods of the newest template have been ready for long enough."""
    status = deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    if not current or status.get("updatedReplicas", 0) < status.get("replicas", 0):
        return 0
    return int(status.get("availableReplicas", 0))


def endpoints(slices: Iterable[Obj]) -> int:
    """Return the number of ready addresses; an address in two slices counts once."""
    ready: set[str] = set()
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            # Unset means ready, by the API's word.
            if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                ready.update(endpoint.get("addresses") or ())
    return len(ready)


def _last_word(container: Obj) -> str:
    """Return what a container said when it last ended in failure: the last line of its message.

    A server of ours leaves one sentence; of another image it is the end of the log.
    """
    for state in ("state", "lastState"):
        ended = (container.get(state) or {}).get("terminated") or {}
        lines = str(ended.get("message") or "").strip().splitlines()
        if lines and ended.get("exitCode"):
            return lines[-1].strip()
    return ""


def trouble(pods: Iterable[Obj], deployment: Obj | None) -> str:
    """Say why a pod is not ready, as far as Kubernetes says."""
    for pod in pods:
        status = pod.get("status") or {}
        before, after = (status.get(f"{key}Statuses") or () for key in _CONTAINERS)
        for container in (*before, *after):
            if not container.get("ready") and (said := _last_word(container)):
                return f"the {container['name']} ended: {said}"[:MOST]
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")[:MOST]
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"{condition.get('reason', '')}: {condition.get('message', '')}"[:MOST]
    for condition in ((deployment or {}).get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"[:MOST]
    return ""


def _number(obj: Obj) -> int | None:
    text = (obj["metadata"].get("labels") or {}).get(LABEL_VERSION, "")
    return int(text) if text.isdecimal() else None


def server(
    cache: Cache,
    pdep: PolicyDeployment,
    version: int,
    children: Mapping[str, Mapping[int, Obj]],
) -> ServerObserved:
    """Return what there is of one version's server; `children` are ours, by kind and number."""
    namespace = pdep.meta.namespace
    labels = {LABEL_DEPLOYMENT: pdep.meta.name, LABEL_VERSION: str(version)}
    deployment, service = (children[kind].get(version) for kind in ("Deployment", "Service"))
    found = {kind: of[version] for kind, of in children.items() if version in of}
    stamps = {kind: stamp_of(obj) for kind, obj in found.items()}
    replicas = deployment["spec"].get("replicas") if deployment is not None else None
    if deployment is not None and not scaling.as_wanted(pdep, replicas):
        stamps["Deployment"] = None
    return ServerObserved(
        version=version,
        stamps=stamps,
        available=available(deployment) if deployment is not None else 0,
        # Without its Service these are somebody else's.
        endpoints=endpoints(cache.list("EndpointSlice", namespace, labels)) if service else 0,
        trouble=trouble(cache.list("Pod", namespace, labels), deployment),
        replicas=replicas,
        kept=kept.read(deployment) if deployment is not None else None,
    )


@dataclass(frozen=True)
class _Parent:
    """What the controllers say of the route at one Gateway."""

    accepted: bool
    programmed: bool
    trouble: str


def _parent(obj: Obj, namespace: str, ref: ParentRef) -> _Parent:
    generation = obj["metadata"].get("generation", 0)
    wanted = (ref.name, ref.namespace or namespace, ref.section_name)
    said, accepted, programmed = "", False, False
    for entry in (obj.get("status") or {}).get("parents") or ():
        parent = entry["parentRef"]
        have = (parent["name"], parent.get("namespace", namespace), parent.get("sectionName"))
        if have != wanted:
            continue
        verdicts = {c["type"]: c for c in entry.get("conditions") or ()}
        good = all(
            verdicts.get(kind, {}).get("status") == "True" for kind in ("Accepted", "ResolvedRefs")
        )
        current = all(c.get("observedGeneration", 0) >= generation for c in verdicts.values())
        accepted = accepted or good
        programmed = programmed or (good and current)
        for condition in verdicts.values():
            if condition["status"] == "False" and condition["type"] in ("Accepted", "ResolvedRefs"):
                said = f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return _Parent(accepted, programmed, "" if programmed else said)


def route(obj: Obj, pdep: PolicyDeployment) -> RouteObserved:
    """Return what there is of the HTTPRoute."""
    parents = [_parent(obj, pdep.meta.namespace, ref) for ref in pdep.spec.traffic.parent_refs]
    annotations = obj["metadata"].get("annotations") or {}
    unheard = not (obj.get("status") or {}).get("parents")
    hint = "no Gateway controller has looked at it" if unheard else ""
    return RouteObserved(
        backends=routes.split_of(pdep.meta.name, obj),
        applied=stamp_of(obj),
        accepted=all(p.accepted for p in parents),
        programmed=all(p.programmed for p in parents),
        trouble=next((p.trouble for p in parents if p.trouble), hint),
        rollback=routes.decode(annotations.get(ANNOTATION_ROLLBACK)),
        spec=obj["spec"],
    )


def url(pdep: PolicyDeployment, gateway: Obj | None) -> str | None:
    """Return where the policy answers, as far as the Gateway says."""
    traffic = pdep.spec.traffic
    if gateway is None:
        return None
    section = traffic.parent_refs[0].section_name
    listeners = gateway["spec"].get("listeners") or ()
    listener = next((x for x in listeners if section in (None, x["name"])), None)
    if listener is None:
        return None
    hosts = [h for h in traffic.hostnames if not h.startswith("*")]
    addresses = (gateway.get("status") or {}).get("addresses") or ()
    host = next(iter(hosts), None) or next((a["value"] for a in addresses), None)
    if host is None:
        return None
    scheme = "https" if listener["protocol"] in ("HTTPS", "TLS") else "http"
    port = listener["port"]
    suffix = "" if port == (443 if scheme == "https" else 80) else f":{port}"
    return f"{scheme}://{host}{suffix}{traffic.path}"


async def observe(
    ctx: Context,
    pdep: PolicyDeployment,
    now: datetime,
    signals: tuple[Signal, ...],
    foreign: tuple[Foreign, ...] = (),
) -> Observed:
    """Return everything that a decision reads: from the cache, seldom from the API server.

    Args:
        ctx: The operator's parts.
        pdep: The resource.
        now: The time.
        signals: Alerts that the webhook brings.
        foreign: Objects of others that writes have just met.
    """
    monitors = await ctx.kube.has_api("monitoring.coreos.com", "v1", "podmonitors")
    prometheus_rules = await ctx.kube.has_api("monitoring.coreos.com", "v1", "prometheusrules")
    return read(
        ctx.cache,
        pdep,
        monitoring=ctx.monitor.about(pdep.meta.namespace, pdep.meta.name, now),
        rules_kind="PrometheusRule" if prometheus_rules else "ConfigMap",
        pod_monitors=monitors,
        server_image=ctx.settings.server_image,
        # An alert does not wait for what only the URL needs.
        gateway=None if signals else await _gateway(pdep, ctx),
        gateway_api=await ctx.kube.has_api("gateway.networking.k8s.io", "v1", "httproutes"),
        signals=signals,
        foreign=foreign,
    )


async def _gateway(pdep: PolicyDeployment, ctx: Context) -> Obj | None:
    """Read the first Gateway while the URL is unknown or the spec is new; it is not watched.

    It may be in a namespace in which we have no rights: then the URL stays unknown, and no more.
    """
    if pdep.status.url is not None and pdep.status.observed_generation == pdep.meta.generation:
        return None
    parent = pdep.spec.traffic.parent_refs[0]
    namespace = parent.namespace or pdep.meta.namespace
    try:
        return await ctx.kube.get("Gateway", namespace, parent.name)
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        log.debug("the URL is not known: %s", error)
        return None


def _own(cache: Cache, pdep: PolicyDeployment, kind: str, name: str) -> Obj | None:
    """Return the child of this name; None when there is none, or when it is somebody else's."""
    found = cache.get(kind, pdep.meta.namespace, name)
    return found if found is not None and owned(found, pdep.meta.uid) else None


def _servers(cache: Cache, pdep: PolicyDeployment, kind: str) -> dict[int, Obj]:
    """Return the versions' objects of a kind by number, without those being deleted."""
    ours = {LABEL_DEPLOYMENT: pdep.meta.name}
    return {
        number: obj
        for obj in cache.list(kind, pdep.meta.namespace, ours)
        if owned(obj, pdep.meta.uid)
        and not obj["metadata"].get("deletionTimestamp")
        and (number := _number(obj)) is not None
    }


def _foreign(cache: Cache, pdep: PolicyDeployment) -> Iterator[Foreign]:
    """Yield what carries our labels, or a name of ours, and is not ours, as far as watches tell."""
    namespace, name = pdep.meta.namespace, pdep.meta.name
    found = [
        *(o for k in SERVER_KINDS for o in cache.list(k, namespace, {LABEL_DEPLOYMENT: name})),
        cache.get("HTTPRoute", namespace, name),
        cache.get("PrometheusRule", namespace, rules.object_name(pdep, "PrometheusRule")),
        cache.get("ConfigMap", namespace, rules.object_name(pdep, "ConfigMap")),
        cache.get("ConfigMap", namespace, serving.object_name(name)),
        *(cache.get(kind, namespace, name) for kind in SHARED_KINDS),
    ]
    for obj in found:
        if obj is not None and not owned(obj, pdep.meta.uid):
            yield Foreign.of(obj)


def read(
    cache: Cache,
    pdep: PolicyDeployment,
    *,
    monitoring: Monitoring,
    rules_kind: RulesKind,
    pod_monitors: bool = False,
    server_image: str,
    gateway: Obj | None = None,
    gateway_api: bool = True,
    signals: tuple[Signal, ...] = (),
    foreign: tuple[Foreign, ...] = (),
) -> Observed:
    """Return everything that a decision reads. Pure.

    Args:
        cache: What the watches told.
        pdep: The resource.
        monitoring: What Prometheus last said about it.
        rules_kind: How this cluster takes alert rules.
        pod_monitors: Whether it has PodMonitors.
        server_image: Image of deployments that name none.
        gateway: The first parent, when it was read just now for the URL.
        gateway_api: Whether the cluster has HTTPRoutes.
        signals: Alerts that the webhook brings.
        foreign: Objects of others that writes have just met: no watch tells of most of them.
    """
    namespace, name = pdep.meta.namespace, pdep.meta.name
    children = {kind: _servers(cache, pdep, kind) for kind in SERVER_KINDS}
    numbers = {number for of in children.values() for number in of}
    there = _own(cache, pdep, "HTTPRoute", name)
    found_rules = []
    kinds: tuple[RulesKind, ...] = ("PrometheusRule", "ConfigMap")
    for each in kinds:
        obj_name = rules.object_name(pdep, each)
        if (held := _own(cache, pdep, each, obj_name)) is not None:
            found_rules.append(RulesObserved(each, obj_name, stamp_of(held)))
    shared = {kind: _own(cache, pdep, kind, name) for kind in SHARED_KINDS}
    others = {(f.kind, f.name): f for f in (*_foreign(cache, pdep), *foreign)}
    target = pdep.spec.target.training
    told = _own(cache, pdep, "ConfigMap", serving.object_name(name))
    return Observed(
        versions=versions(cache, namespace, pdep.spec.policy),
        servers={n: server(cache, pdep, n, children) for n in sorted(numbers)},
        route=route(there, pdep) if there is not None else None,
        rules=tuple(found_rules),
        rules_kind=rules_kind,
        monitoring=monitoring,
        server_image=server_image,
        training=training(cache, namespace, target.name if target is not None else None),
        signals=signals,
        url=url(pdep, gateway),
        foreign=tuple(others.values()),
        gateway_api=gateway_api,
        serving=stamp_of(told) if told is not None else None,
        peers=peers.find(cache, pdep),
        shared={kind: stamp_of(obj) for kind, obj in shared.items() if obj is not None},
        pod_monitors=pod_monitors,
    )
