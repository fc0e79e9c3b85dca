"""The pod template of a server that runs, kept as it was applied. Pure.

An operator of another version builds other pods of the same spec: other defaults, another image.
Were they applied, its upgrade would restart every server of the cluster. So a Deployment carries
what its pods were made from, and they are made anew only where that has changed.
"""

import json

from policy_api.keys import ANNOTATION_TEMPLATE

from policy_operator.children import checksum
from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout.types import Kept, PolicyDeployment

# Parts of spec.server that are about how many pods there are and who reaches them.
_BESIDE = frozenset(("replicas", "autoscaling", "network_policy", "routes"))


def asked(pdep: PolicyDeployment, record: VersionRecord) -> str:
    """Return a checksum of what a user has asked for of the pods.

    Fields that are as they are by default are left out: a field that a newer API adds is no change.
    """
    server = pdep.spec.server.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude=set(_BESIDE), warnings=False
    )
    artifact = record.artifact.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return checksum([pdep.spec.policy, record.version, artifact, server])


def annotation(of: str, template: Obj) -> dict[str, str]:
    """Return the annotation that keeps a template."""
    text = json.dumps({"of": of, "template": template}, sort_keys=True, separators=(",", ":"))
    return {ANNOTATION_TEMPLATE: text}


def read(deployment: Obj) -> Kept | None:
    """Return what a Deployment carries; None: nothing, or nothing that we can read."""
    text = (deployment["metadata"].get("annotations") or {}).get(ANNOTATION_TEMPLATE, "")
    try:
        found = json.loads(text)
        return Kept(of=found["of"], template=dict(found["template"]))
    except (ValueError, TypeError, KeyError):
        return None
