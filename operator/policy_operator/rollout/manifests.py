"""Names and labels of what a PolicyDeployment has."""

from policy_api.keys import KIND_DEPLOYMENT, LABEL_DEPLOYMENT, LABEL_POLICY, LABEL_VERSION

from policy_operator import children
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.types import PolicyDeployment

GATEWAY_API = "gateway.networking.k8s.io/v1"


def server_name(deployment: str, version: int) -> str:
    """Return the name of a version's Deployment and Service."""
    return f"{deployment}-v{version}"


def labels(pdep: PolicyDeployment, version: int | None = None) -> dict[str, str]:
    """Return the labels of a child; those of one version carry its number."""
    found = children.managed({LABEL_POLICY: pdep.spec.policy, LABEL_DEPLOYMENT: pdep.meta.name})
    return found if version is None else {**found, LABEL_VERSION: str(version)}


def metadata(pdep: PolicyDeployment, name: str, version: int | None = None) -> Obj:
    """Return a child's metadata."""
    return children.metadata(KIND_DEPLOYMENT, pdep.meta, name, labels(pdep, version))
