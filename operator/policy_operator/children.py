"""What we make for an object: its owner, its labels, its checksum. One way for every kind.

What we make carries a controller reference to its owner, so the garbage collector deletes it with
its owner (docs/adr/0004), and so that we can tell it from somebody else's object of the same name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from policy_api.base import ObjectMeta
from policy_api.keys import ANNOTATION_APPLIED, FIELD_MANAGER, GROUP_VERSION, LABEL_MANAGED_BY

from policy_operator.machinery.cache import Obj


def managed(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels with the one that says that the operator made it."""
    return {LABEL_MANAGED_BY: FIELD_MANAGER, **labels}


def metadata(kind: str, owner: ObjectMeta, name: str, labels: Mapping[str, str]) -> Obj:
    """Return a child's metadata.

    Args:
        kind: Kind of its owner.
        owner: Metadata of its owner; the child is in the same namespace.
        name: The child's name.
        labels: Its labels, beside the one that every child has.
    """
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": managed(labels),
        "ownerReferences": [
            {
                "apiVersion": GROUP_VERSION,
                "kind": kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def controller(obj: Obj) -> Obj | None:
    """Return the owner reference of the object's controller; None when it has none."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((dict(o) for o in owners if o.get("controller")), None)


def owned(obj: Obj, uid: str) -> bool:
    """Whether the object's controller is the one with this uid."""
    found = controller(obj)
    return found is not None and found.get("uid") == uid


def labelled(obj: Obj, labels: Mapping[str, str]) -> bool:
    """Whether the object carries all of the labels: how we know what has no owner."""
    have = obj["metadata"].get("labels") or {}
    return all(have.get(key) == value for key, value in labels.items())


@dataclass(frozen=True)
class Foreign:
    """Somebody else's object that has a name of ours."""

    kind: str
    name: str
    whose: str
    """What is known of its owner, e.g. "belongs to Deployment web"."""

    @classmethod
    def of(cls, obj: Obj) -> "Foreign":
        """Describe the object."""
        return cls(obj["kind"], obj["metadata"]["name"], _whose(obj))

    @property
    def sentence(self) -> str:
        """Name the object and its owner."""
        return f"{self.kind} {self.name} exists and {self.whose}"


def _whose(obj: Obj) -> str:
    """Say whose an object is: its controller, else its manager by label, else who wrote it."""
    meta = obj["metadata"]
    manager = (meta.get("labels") or {}).get(LABEL_MANAGED_BY)
    by = f"managed by {manager}" if manager else ""
    owner = controller(obj)
    if owner is not None:
        uid = f", uid {owner['uid']}" if owner["apiVersion"] == GROUP_VERSION else ""
        return f"belongs to {owner['kind']} {owner['name']}{uid}{f', {by}' if by else ''}"
    if manager == FIELD_MANAGER:
        return f"has no owner, though its label {LABEL_MANAGED_BY} is {manager}"
    if by:
        return f"is {by}"
    entries = meta.get("managedFields") or ()
    writers = {e["manager"] for e in entries if e.get("manager") and not e.get("subresource")}
    return f"was written by {', '.join(sorted(writers))}" if writers else "has no owner"


def checksum(value: object) -> str:
    """Return a short checksum of JSON, the same for the same content."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamp(*manifests: Obj) -> tuple[Obj, ...]:
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


def stamp_of(manifest: Obj) -> str | None:
    """Return the checksum that the manifest, or the object made from it, carries."""
    annotations = manifest["metadata"].get("annotations") or {}
    found: str | None = annotations.get(ANNOTATION_APPLIED)
    return found
