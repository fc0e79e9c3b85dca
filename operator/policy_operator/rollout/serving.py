"""What the running servers of a deployment are told: one ConfigMap, apart from the pods' template.

The template names it and never its content, so a change of it restarts no pod: the kubelet renews
the mounted file, and the server reads it anew.
"""

import json

from policy_api.contract.environment import SERVING_FILE
from policy_api.contract.serving import ServingConfig

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.manifests import metadata
from policy_operator.rollout.types import PolicyDeployment


def object_name(deployment: str) -> str:
    """Return the name of the ConfigMap."""
    return f"{deployment}-serving"


def build(pdep: PolicyDeployment) -> Obj:
    """Return the ConfigMap of a deployment's servers."""
    # Not judged again: another version of the CRD may have let more pass than this one would.
    config = ServingConfig.model_construct(**pdep.spec.serving())
    text = json.dumps(config.to_wire(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    (made,) = stamp(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(pdep, object_name(pdep.meta.name)),
            "data": {SERVING_FILE: text},
        }
    )
    return made
