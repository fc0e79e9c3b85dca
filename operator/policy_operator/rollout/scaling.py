"""How many pods a version's server has, who changes that, and how many may be evicted at once."""

from policy_api.keys import LABEL_DEPLOYMENT, LABEL_VERSION
from policy_api.v1alpha1.autoscaling import DEFAULT_CPU_PERCENT, Autoscaling
from policy_api.v1alpha1.pod_template import SERVER_CONTAINER

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.manifests import metadata, server_name
from policy_operator.rollout.types import InvalidServerError, PolicyDeployment

BUDGET, AUTOSCALER = "PodDisruptionBudget", "HorizontalPodAutoscaler"


def fewest(pdep: PolicyDeployment) -> int:
    """Return how many pods of a version must be ready before it takes traffic."""
    scaled = pdep.spec.server.autoscaling
    return pdep.spec.server.replicas if scaled is None else scaled.min_replicas


def as_wanted(pdep: PolicyDeployment, replicas: int | None) -> bool:
    """Whether a Deployment with so many replicas can stay as it is."""
    return pdep.spec.server.autoscaling is not None or replicas == pdep.spec.server.replicas


def stamped(
    pdep: PolicyDeployment, deployment: Obj, service: Obj, there: int | None
) -> tuple[Obj, ...]:
    """Return a version's Deployment and Service with their checksum and the number of pods.

    Whatever an autoscaler has set stays: the checksum has no number, and a write that meets another
    one than was seen is refused and decided again. Left out, the number would become 1.

    Args:
        pdep: Its owner.
        deployment: Without a number of pods.
        service: What is applied together with it.
        there: How many pods there should be now, if there is a Deployment.
    """
    server = pdep.spec.server
    if server.autoscaling is None:
        return stamp(_counted(deployment, server.replicas), service)
    deployment, service = stamp(deployment, service)
    return _counted(deployment, fewest(pdep) if there is None else there), service


def _counted(deployment: Obj, replicas: int) -> Obj:
    return {**deployment, "spec": {"replicas": replicas, **deployment["spec"]}}


def kinds(pdep: PolicyDeployment) -> tuple[str, ...]:
    """Return what stands beside the Deployment of a version that takes traffic."""
    scaled = pdep.spec.server.autoscaling
    most = pdep.spec.server.replicas if scaled is None else scaled.max_replicas
    budget = (BUDGET,) if most > 1 else ()
    return budget if scaled is None else (*budget, AUTOSCALER)


def children(pdep: PolicyDeployment, version: int, *, frozen: bool) -> tuple[Obj, ...]:
    """Return what stands beside a version's Deployment because of the number of its pods.

    Args:
        pdep: Its owner.
        version: The version.
        frozen: Keep as many pods as there are: it takes no traffic and is kept for a rollback,
            which must find the pods that it had.

    Raises:
        InvalidServerError: spec.server.autoscaling can't be.
    """
    scaled = pdep.spec.server.autoscaling
    made = [_budget(pdep, version)] if BUDGET in kinds(pdep) else []
    if scaled is not None:
        autoscaler = _autoscaler(pdep, version, scaled)
        made += [] if frozen else [autoscaler]
    # Each with a checksum of its own: the pods are not concerned.
    return tuple(stamped for manifest in made for stamped in stamp(manifest))


def _budget(pdep: PolicyDeployment, version: int) -> Obj:
    selector = {LABEL_DEPLOYMENT: pdep.meta.name, LABEL_VERSION: str(version)}
    return {
        "apiVersion": "policy/v1",
        "kind": BUDGET,
        "metadata": metadata(pdep, server_name(pdep.meta.name, version), version),
        "spec": {
            # Never the last but one only: a node must be drained whatever the number of pods.
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _autoscaler(pdep: PolicyDeployment, version: int, scaled: Autoscaling) -> Obj:
    name = server_name(pdep.meta.name, version)
    spec: Obj = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaled.min_replicas,
        "maxReplicas": scaled.max_replicas,
        "metrics": [*_cpu(pdep, scaled), *(scaled.metrics or ())],
    }
    if scaled.behavior is not None:
        spec["behavior"] = scaled.behavior
    return {
        "apiVersion": "autoscaling/v2",
        "kind": AUTOSCALER,
        "metadata": metadata(pdep, name, version),
        "spec": spec,
    }


def _cpu(pdep: PolicyDeployment, scaled: Autoscaling) -> list[Obj]:
    """Return the metric of the server's own container: others beside it are not asked."""
    percent = scaled.cpu_utilization_percent
    if percent is None:
        if scaled.metrics:
            return []
        percent = DEFAULT_CPU_PERCENT
    resources = pdep.spec.server.resources or {}
    if not any("cpu" in (resources.get(part) or {}) for part in ("requests", "limits")):
        raise InvalidServerError(
            "spec.server.autoscaling measures the CPU against what the server requests: set "
            "spec.server.resources.requests.cpu, or scale by metrics alone"
        )
    target = {"type": "Utilization", "averageUtilization": percent}
    source = {"name": "cpu", "container": SERVER_CONTAINER, "target": target}
    return [{"type": "ContainerResource", "containerResource": source}]
