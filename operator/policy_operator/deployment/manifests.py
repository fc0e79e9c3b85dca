"""What all children of a PolicyDeployment share: names, labels, owner, checksum."""

import hashlib
import json

from policy_api.keys import (
    ANNOTATION_APPLIED,
    FIELD_MANAGER,
    GROUP_VERSION,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_POLICY,
    LABEL_VERSION,
)

from policy_operator.deployment.types import Manifest, PolicyDeployment

GATEWAY_API = "gateway.networking.k8s.io/v1"


def server_name(deployment: str, version: int) -> str:
    """Return the name of a version's Deployment and Service."""
    return f"{deployment}-v{version}"


def labels(pdep: PolicyDeployment, version: int | None = None) -> dict[str, str]:
    """Return the labels of a child; those of one version carry its number."""
    found = {
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_POLICY: pdep.spec.policy,
        LABEL_DEPLOYMENT: pdep.meta.name,
    }
    return found if version is None else {**found, LABEL_VERSION: str(version)}


def metadata(pdep: PolicyDeployment, name: str, version: int | None = None) -> Manifest:
    """Return a child's metadata; the owner reference is what deletes it with its owner."""
    return {
        "name": name,
        "namespace": pdep.meta.namespace,
        "labels": labels(pdep, version),
        "ownerReferences": [
            {
                "apiVersion": GROUP_VERSION,
                "kind": "PolicyDeployment",
                "name": pdep.meta.name,
                "uid": pdep.meta.uid,
                "controller": True,
            }
        ],
    }


def checksum(value: object) -> str:
    """Return a short checksum of JSON, the same for the same content."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamp(*manifests: Manifest) -> tuple[Manifest, ...]:
    """Return the manifests with the checksum of them all as an annotation.

    The API server fills in defaults, so what it returns can't be compared with what was applied;
    this can.
    """
    value = checksum(manifests)
    stamped = []
    for manifest in manifests:
        meta = manifest["metadata"]
        annotations = {**meta.get("annotations", {}), ANNOTATION_APPLIED: value}
        stamped.append({**manifest, "metadata": {**meta, "annotations": annotations}})
    return tuple(stamped)


def stamp_of(manifest: Manifest) -> str | None:
    """Return the checksum that the manifest, or the object made from it, carries."""
    annotations = manifest["metadata"].get("annotations") or {}
    found: str | None = annotations.get(ANNOTATION_APPLIED)
    return found
