"""What a namespace holds in the end, without what differs from run to run.

Left out: times and what they cost, uids, resource versions, random suffixes of pods, certificates.
Everything else has to be the same whatever happened on the way.
"""

import json
import re
from typing import Any

from integration.client import Api, Obj

KINDS = (
    "PolicyTraining",
    "PolicyDeployment",
    "PolicyVersion",
    "Job",
    "Service",
    "ConfigMap",
    "Deployment",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "HTTPRoute",
)
_DROPPED = {
    "uid",
    "resourceVersion",
    "managedFields",
    "creationTimestamp",
    "generation",  # counts writes of a spec; an idempotent write does not raise it, a retry may
    "observedGeneration",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "startTime",
    "completionTime",
    "startedAt",
    "endedAt",
    "finishedAt",
    "runningSince",
    "runSeconds",
    "earlierRunSeconds",
    "suspendedSince",
    "suspendedSeconds",
    "cpus",  # as far as a pod was still there to tell
    "gpus",
    "cpuSeconds",
    "spentSeconds",
    "usd",
    "activeDeadlineSeconds",  # what a budget has left
    "updatedAt",
    "asOf",
    "stepStartedAt",
    "trafficSince",
    "holdUntil",
    "since",
    "until",
    "at",
    "clusterIP",
    "clusterIPs",
    "ca.crt",
    "createdAt",
}
_POD = re.compile(r"\b(forge(?:-v)?-?\d+(?:-[0-9a-f]{6,10})?(?:-\d+)?)-[a-z0-9]{5}\b")


# A checksum of manifests covers the namespace's name and the owner's uid.
_CHECKSUM = re.compile(r"\b[0-9a-f]{16}\b")


def _clean(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _DROPPED}
        return {_clean(k, known): _clean(v, known) for k, v in sorted(kept.items())}
    if isinstance(value, list):
        cleaned = [_clean(v, known) for v in value]
        # Conditions are a map by type; Kubernetes's own controllers write them in any order.
        if all(isinstance(v, dict) and {"type", "status"} <= v.keys() for v in cleaned):
            # The Job controller adds this one if it sees the pod's end before the suspension.
            cleaned = [v for v in cleaned if v["type"] != "FailureTarget"]
            cleaned.sort(key=lambda v: str(v["type"]))
        return cleaned
    if isinstance(value, str):
        if value.startswith("{") and value.endswith("}"):
            try:
                return _clean(json.loads(value), known)
            except ValueError:
                return value
        for secret, word in known.items():
            value = value.replace(secret, word)
        return _CHECKSUM.sub("CHECKSUM", _POD.sub(r"\1-XXXXX", value))
    return value


def end_state(api: Api, namespace: str, own: dict[str, str]) -> dict[str, Obj]:
    """Return every object of the kinds that matter, by kind and name.

    Args:
        api: The API server.
        namespace: Whose objects.
        own: What is peculiar to this run (a port), and the word that stands for it.
    """
    objects = [obj for kind in KINDS for obj in api.list(kind, namespace)]
    known = {obj["metadata"]["uid"]: f"uid-of-{obj['metadata']['name']}" for obj in objects}
    known |= {namespace: "NAMESPACE", **own}
    found = {}
    for obj in objects:
        name = obj["metadata"]["name"]
        if name == "kube-root-ca.crt" or name.endswith("-ca"):
            continue
        found[f"{obj['kind']} {name}"] = _clean(obj, known)
    return found


def differences(wanted: Any, have: Any, path: str = "") -> list[str]:
    """Name every place where two states differ."""
    if isinstance(wanted, dict) and isinstance(have, dict):
        found = []
        for key in sorted({*wanted, *have}):
            where = f"{path}.{key}" if path else key
            if key not in have:
                found.append(f"{where} is missing")
            elif key not in wanted:
                found.append(f"{where} is new: {have[key]!r:.200}")
            else:
                found += differences(wanted[key], have[key], where)
        return found
    if isinstance(wanted, list) and isinstance(have, list) and len(wanted) == len(have):
        return [
            line
            for index, (a, b) in enumerate(zip(wanted, have, strict=True))
            for line in differences(a, b, f"{path}[{index}]")
        ]
    return [] if wanted == have else [f"{path}: {have!r:.300}, wanted {wanted!r:.300}"]
