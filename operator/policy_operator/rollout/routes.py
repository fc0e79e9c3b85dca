"""The HTTPRoute: what it publishes, weights, and the header that tells a server its role.

Every rule has the same backends with the same weights: whichever path a caller asks for, it is the
same split of traffic, and all rules change in one write.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from policy_api.base import rfc3339
from policy_api.contract.paths import PUBLISHED
from policy_api.keys import ANNOTATION_ROLLBACK, ROLE_CANDIDATE, ROLE_HEADER, ROLE_STABLE
from policy_api.v1alpha1.deployment import PolicyDeploymentStatus

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.manifests import GATEWAY_API, metadata, server_name
from policy_operator.rollout.types import (
    REQUEST_SECONDS,
    SERVICE_PORT,
    Backend,
    PolicyDeployment,
    RollbackRecord,
)


def backends(status: PolicyDeploymentStatus) -> tuple[Backend, ...]:
    """Return the backends that the status stands for, stable first.

    A version that is ready to take over, or that finishes its last answers, is a backend of
    weight 0: its endpoints stay known to the gateway, and a shift to it costs no warm-up.
    """
    found: dict[int, Backend] = {}
    if status.stable is not None:
        found[status.stable.version] = Backend(
            status.stable.version, status.stable.weight, ROLE_STABLE
        )
    if status.candidate is not None:
        found[status.candidate.version] = Backend(
            status.candidate.version, status.candidate.weight, ROLE_CANDIDATE
        )
    idle = [r.version for r in status.retiring]
    if status.previous is not None:
        idle.insert(0, status.previous.version)
    for version in idle:
        found.setdefault(version, Backend(version, 0, ROLE_STABLE))
    return tuple(found.values())


def _backend_ref(name: str, backend: Backend) -> Obj:
    return {
        "group": "",
        "kind": "Service",
        "name": server_name(name, backend.version),
        "port": SERVICE_PORT,
        "weight": backend.weight,
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": ROLE_HEADER, "value": backend.role}]},
            }
        ],
    }


def _match(path: str) -> Obj:
    return {"path": {"type": "PathPrefix", "value": path}}


def _published(prefix: str) -> list[Obj]:
    """Return what the rules match: the paths that callers need, below the route's own prefix.

    A rewrite puts something in the place of the very prefix that its rule matches, so a rule that
    has one can match no other path.
    """
    below = prefix.rstrip("/")
    if not below:  # servers answer at /v1: nothing to take off
        return [{"matches": [_match(path) for path in PUBLISHED]}]
    return [
        {
            "matches": [_match(below + path)],
            "filters": [
                {
                    "type": "URLRewrite",
                    "urlRewrite": {
                        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}
                    },
                }
            ],
        }
        for path in PUBLISHED
    ]


def build(
    pdep: PolicyDeployment, split: Sequence[Backend], rollback: RollbackRecord | None = None
) -> Obj:
    """Return the HTTPRoute with these weights, and with the reason when they go back."""
    traffic = pdep.spec.traffic
    parents = []
    for parent in traffic.parent_refs:
        ref: Obj = {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": parent.namespace or pdep.meta.namespace,
            "name": parent.name,
        }
        if parent.section_name is not None:
            ref["sectionName"] = parent.section_name
        parents.append(ref)
    meta = metadata(pdep, pdep.meta.name)
    if rollback is not None:
        meta["annotations"] = {ANNOTATION_ROLLBACK: encode(rollback)}
    spec: Obj = {
        "parentRefs": parents,
        "rules": [
            {
                **published,
                "backendRefs": [_backend_ref(pdep.meta.name, b) for b in split],
                "timeouts": {"request": f"{REQUEST_SECONDS}s"},
            }
            for published in _published(traffic.path)
        ],
    }
    if traffic.hostnames:
        spec["hostnames"] = list(traffic.hostnames)
    route = {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": meta, "spec": spec}
    return stamp(route)[0]


def reweigh(
    pdep: PolicyDeployment,
    spec: Obj,
    split: Sequence[Backend],
    rollback: RollbackRecord | None = None,
) -> Obj:
    """Return the HTTPRoute as it is, but for the weights and the reason why they go back.

    Args:
        pdep: The resource, whose spec says more of the route than this operator knows.
        spec: The route's spec.
        split: The weights; a version that is not in it is no backend any more.
        rollback: The reason.
    """
    route = build(pdep, split, rollback)
    weights = {server_name(pdep.meta.name, b.version): b.weight for b in split}
    rules = [
        {
            **rule,
            "backendRefs": [
                {**ref, "weight": weights[ref["name"]]}
                for ref in rule.get("backendRefs") or ()
                if ref["name"] in weights
            ],
        }
        for rule in spec.get("rules") or ()
    ]
    return stamp({**route, "spec": {**spec, "rules": rules}})[0]


def split_of(name: str, route: Obj) -> tuple[Backend, ...]:
    """Return the backends of an HTTPRoute of ours; those of other names are left out.

    Rules agree, so each is named once. Where somebody made them differ, all that any rule has is
    named: no split of ours is like that, so that it is written anew.
    """
    found: dict[Backend, None] = {}
    for rule in route["spec"].get("rules") or ():
        for ref in rule.get("backendRefs") or ():
            prefix, _, number = ref["name"].rpartition("-v")
            if prefix != name or not number.isdigit():
                continue
            role = ROLE_STABLE
            for item in ref.get("filters") or ():
                for header in (item.get("requestHeaderModifier") or {}).get("set") or ():
                    if header["name"].lower() == ROLE_HEADER:
                        role = header["value"]
            found[Backend(int(number), ref.get("weight", 1), role)] = None
    return tuple(found)


def encode(record: RollbackRecord) -> str:
    """Return the record as the route's annotation."""
    return json.dumps(
        {
            "version": record.version,
            "since": rfc3339(record.since),
            "alert": record.alert,
            "message": record.message,
            "at": rfc3339(record.at),
        }
    )


def decode(text: str | None) -> RollbackRecord | None:
    """Read the annotation; None when it is absent or not ours."""
    try:
        data = json.loads(text or "null")
        return RollbackRecord(
            version=int(data["version"]),
            since=datetime.fromisoformat(data["since"]),
            alert=str(data["alert"]),
            message=str(data["message"]),
            at=datetime.fromisoformat(data["at"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
