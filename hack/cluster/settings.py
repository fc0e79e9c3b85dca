"""Where things are and what they are called: the one place for paths, versions and addresses.

Nothing of the running cluster lives in the checkout. Everything is under the cache folder
(`POLICYOPS_CACHE`, by default `~/.cache/policy-operator`): what is costly to make again (`bin`,
`images`, `containerd`, `buildah`) survives `down`; what belongs to one run is under `run`.
"""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
IMAGE_SOURCES = HERE.parent / "images"
MANIFESTS = HERE / "manifests"

CACHE = Path(os.environ.get("POLICYOPS_CACHE") or Path.home() / ".cache" / "policy-operator")
RUN = CACHE / "run"
LOGS = RUN / "logs"
KUBECONFIG = CACHE / "kubeconfig"
VOLUMES = RUN / "volumes"

KUBERNETES_VERSION = "1.36.3"
KIND_MODULE = "sigs.k8s.io/kind@v0.33.0"
BIN_KIND = CACHE / "bin" / "kind-v0.33.0"

# The bare node's networks. Cluster IPs stay clear of the pod subnet; both are private ranges that
# exist only inside this machine's bridge and iptables rules.
POD_SUBNET = "10.244.0.0/24"
SERVICE_SUBNET = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"

OPERATOR_NAMESPACE = "policy-operator-system"
MONITORING_NAMESPACE = "monitoring"
EXAMPLES_NAMESPACE = "ml"
