"""What every control plane of the tests and the benchmarks has: CRDs and a Gateway."""

from collections.abc import Iterator
from pathlib import Path

import binaries
import yaml
from controlplane import ControlPlane
from integration.client import Api, Obj
from integration.operator_process import REPO

GATEWAY_API = "sigs.k8s.io/gateway-api"
GATEWAY_CRDS = ("httproutes", "gateways", "gatewayclasses")


def gateway_crds() -> Iterator[Path]:
    """The Gateway API's CRDs, of the version that the local cluster's gateway is built from."""
    module = binaries.module_folder(GATEWAY_API, binaries.CONTOUR)
    folder = module / "config" / "crd" / "experimental"
    for plural in GATEWAY_CRDS:
        yield folder / f"gateway.networking.k8s.io_{plural}.yaml"


def kueue_crd() -> Obj:
    """The kind in which Kueue says why a Job waits, with any content: its controller is played."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    names = {"plural": "workloads", "singular": "workload", "kind": "Workload"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "workloads.kueue.x-k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"},
        },
        "spec": {
            "group": "kueue.x-k8s.io",
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }


def install(cluster: ControlPlane) -> None:
    """Apply the CRDs: ours, the Gateway API's, Kueue's; and wait until they are served."""
    crd = yaml.safe_dump(kueue_crd())
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=crd)
    for file in (*(REPO / "crds").glob("policy*.yaml"), *gateway_crds()):
        cluster.kubectl("apply", "--server-side", "-f", str(file))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")


def make_gateway(api: Api) -> Obj:
    """Make the Gateway `gateways/public`; the played node is its controller."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gateways"}})
    listener = {"name": "http", "protocol": "HTTP", "port": 80}
    api.create(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "gateways"},
            "spec": {"gatewayClassName": "played", "listeners": [listener]},
        }
    )
    address = {"type": "IPAddress", "value": "203.0.113.7"}
    return api.patch_status("Gateway", "gateways", "public", {"addresses": [address]})
