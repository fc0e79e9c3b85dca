"""What the servers of all versions have in common beside what they are told: who reaches them."""

from policy_api.keys import LABEL_DEPLOYMENT, LABEL_METRICS
from policy_api.v1alpha1.network import ServerNetworkPolicy

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.manifests import metadata
from policy_operator.rollout.types import Observed, PolicyDeployment

# Every namespace has its name as this label, which only the API server sets.
_NAME = "kubernetes.io/metadata.name"


def wanted(pdep: PolicyDeployment, observed: Observed) -> tuple[Obj, ...]:
    """Return the children that there should be, each with its checksum."""
    policy = pdep.spec.server.network_policy
    made = [] if policy is None else [_network_policy(pdep, policy)]
    if observed.pod_monitors:
        made.append(_pod_monitor(pdep))
    return tuple(stamped for manifest in made for stamped in stamp(manifest))


def _pods(pdep: PolicyDeployment) -> Obj:
    return {"matchLabels": {LABEL_DEPLOYMENT: pdep.meta.name}}


def _named(namespaces: list[str]) -> Obj:
    expression = {"key": _NAME, "operator": "In", "values": sorted(set(namespaces))}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def _network_policy(pdep: PolicyDeployment, policy: ServerNetworkPolicy) -> Obj:
    """Let in who routes, who scrapes, and the deployment's own servers. Out is not limited."""
    parents = [p.namespace or pdep.meta.namespace for p in pdep.spec.traffic.parent_refs]
    peers = [_named(policy.gateway_namespaces or parents)]
    if policy.metrics_namespaces is None:
        peers.append({"namespaceSelector": {"matchLabels": {LABEL_METRICS: "allowed"}}})
    elif policy.metrics_namespaces:
        peers.append(_named(policy.metrics_namespaces))
    peers += [{"podSelector": _pods(pdep)}, *(policy.peers or ())]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(pdep, pdep.meta.name),
        "spec": {
            "podSelector": _pods(pdep),
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": "http"}]}],
        },
    }


def _pod_monitor(pdep: PolicyDeployment) -> Obj:
    """Have the Prometheus Operator scrape every version's pods."""
    engine = pdep.spec.server.custom
    path = "/metrics" if engine is None else engine.metrics_path
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(pdep, pdep.meta.name),
        "spec": {
            "selector": _pods(pdep),
            "podMetricsEndpoints": [{"port": "http", "path": path}],
        },
    }
