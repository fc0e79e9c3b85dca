"""Where each kind lives in the API."""

from dataclasses import dataclass
from urllib.parse import quote

from policy_api.keys import API_VERSION, GROUP


@dataclass(frozen=True)
class Resource:
    """Where a kind lives in the API."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    cached: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Return the URL's path; namespace None means all of them."""
        parts = ["apis", self.group] if self.group else ["api"]
        parts.append(self.version)
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [p for p in (self.plural, name, sub) if p]
        return "/" + "/".join(quote(p, safe="") for p in parts)


RESOURCES: dict[str, Resource] = {
    "PolicyTraining": Resource(GROUP, API_VERSION, "policytrainings"),
    "PolicyDeployment": Resource(GROUP, API_VERSION, "policydeployments"),
    "PolicyVersion": Resource(GROUP, API_VERSION, "policyversions"),
    "Job": Resource("batch", "v1", "jobs"),
    "Pod": Resource("", "v1", "pods"),
    "Service": Resource("", "v1", "services"),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Secret": Resource("", "v1", "secrets", cached=False),
    "Deployment": Resource("apps", "v1", "deployments"),
    "EndpointSlice": Resource("discovery.k8s.io", "v1", "endpointslices"),
    "PodDisruptionBudget": Resource("policy", "v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": Resource("autoscaling", "v2", "horizontalpodautoscalers"),
    "NetworkPolicy": Resource("networking.k8s.io", "v1", "networkpolicies"),
    "PodMonitor": Resource("monitoring.coreos.com", "v1", "podmonitors"),
    "Gateway": Resource("gateway.networking.k8s.io", "v1", "gateways", cached=False),
    "HTTPRoute": Resource("gateway.networking.k8s.io", "v1", "httproutes"),
    "PrometheusRule": Resource("monitoring.coreos.com", "v1", "prometheusrules"),
    "Workload": Resource("kueue.x-k8s.io", "v1beta1", "workloads", cached=False),
    "Lease": Resource("coordination.k8s.io", "v1", "leases", cached=False),
    "Event": Resource("events.k8s.io", "v1", "events", cached=False),
    "TokenReview": Resource(
        "authentication.k8s.io", "v1", "tokenreviews", namespaced=False, cached=False
    ),
}
