"""Objects of other people, with the names of our children."""

import copy
from typing import Any

from integration.client import Api, until
from policy_api.keys import (
    FIELD_MANAGER,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_POLICY,
    LABEL_TRAINING,
    LABEL_VERSION,
)

Obj = dict[str, Any]

_POD: Obj = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}
_BODIES: dict[str, Obj] = {
    "HTTPRoute": {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "spec": {
            "hostnames": ["web.example.com"],
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
        },
    },
    "Service": {"apiVersion": "v1", "spec": {"selector": {"app": "web"}, "ports": [{"port": 81}]}},
    "Deployment": {
        "apiVersion": "apps/v1",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": _POD},
    },
    "PodDisruptionBudget": {
        "apiVersion": "policy/v1",
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    },
    "HorizontalPodAutoscaler": {
        "apiVersion": "autoscaling/v2",
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 3,
        },
    },
    "NetworkPolicy": {
        "apiVersion": "networking.k8s.io/v1",
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}},
    },
    "ConfigMap": {"apiVersion": "v1", "data": {"key": "theirs"}},
    "PodMonitor": {
        "apiVersion": "monitoring.coreos.com/v1",
        "spec": {"selector": {}, "podMetricsEndpoints": []},
    },
    "PrometheusRule": {
        "apiVersion": "monitoring.coreos.com/v1",
        "spec": {"groups": []},
    },
    "Job": {
        "apiVersion": "batch/v1",
        "spec": {
            "suspend": True,
            "template": {"spec": {**_POD["spec"], "restartPolicy": "Never"}},
        },
    },
}
# A status that some controller writes soon, after which the object stays as it is.
_SETTLED = {
    "HTTPRoute": "parents",
    "Deployment": "observedGeneration",
    "Job": "conditions",
    "PodDisruptionBudget": "observedGeneration",
    "HorizontalPodAutoscaler": "conditions",
}
OURS = {
    LABEL_MANAGED_BY: FIELD_MANAGER,
    LABEL_DEPLOYMENT: "forge",
    LABEL_TRAINING: "forge",
    LABEL_VERSION: "1",
}
"""Our labels, as far as somebody may have copied them; the ledger of another policy, too."""


def theirs(kind: str, namespace: str, name: str) -> Obj:
    """Return an object of another team."""
    return {
        **copy.deepcopy(_BODIES[kind]),
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    }


def settle(api: Api, made: Obj) -> Obj:
    """Wait until its controllers have said what they have to say, and return the object."""
    kind, meta = made["kind"], made["metadata"]
    part = _SETTLED.get(kind)

    def found() -> Obj:
        have = api.get(kind, meta["namespace"], meta["name"])
        assert part is None or have["status"][part]
        return have

    return until(f"{kind} {meta['name']} is settled", found)


def make(api: Api, kind: str, namespace: str, name: str, *, ours: bool) -> tuple[Obj, str]:
    """Create an object of another team.

    Args:
        api: The API server.
        kind: Its kind.
        namespace: Its namespace.
        name: Its name.
        ours: Whether it carries our labels; else it has an owner of its own.

    Returns:
        The object, and what a condition must say of its owner.
    """
    made = theirs(kind, namespace, name)
    if ours:
        made["metadata"]["labels"] = {**OURS, LABEL_POLICY: "other"}
        told = f"has no owner, though its label {LABEL_MANAGED_BY} is {FIELD_MANAGER}"
    else:
        have = api.find("ConfigMap", namespace, "web")
        owner = have or api.create(theirs("ConfigMap", namespace, "web"))
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "controller": True}
        reference["uid"] = owner["metadata"]["uid"]
        made["metadata"]["ownerReferences"] = [reference]
        made["metadata"]["labels"] = {LABEL_MANAGED_BY: "Helm"}
        told = "belongs to ConfigMap web, managed by Helm"
    return settle(api, api.create(made)), told


def kept(found: Obj) -> Obj:
    """Return what only a person or a program of theirs may change, without what controllers say."""
    meta = found["metadata"]
    parts = ("uid", "generation", "labels", "ownerReferences")
    return {
        **{part: meta.get(part) for part in parts},
        **{part: found.get(part) for part in ("spec", "data")},
    }
