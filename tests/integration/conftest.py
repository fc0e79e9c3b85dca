"""One real control plane for all integration tests, a namespace and an operator for each that asks.

Deleted namespaces are not waited for: the names are never used again.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import binaries
import pytest
from controlplane import ControlPlane
from integration.client import Api, Obj, condition, new_namespace, until
from integration.kubelet import Kubelet, PlayedNode
from integration.monitoring import PlayedPrometheus
from integration.operator_process import OperatorProcess

REPO = Path(__file__).resolve().parents[2]
GATEWAY_API = "sigs.k8s.io/gateway-api"
GATEWAY_CRDS = ("httproutes", "gateways", "gatewayclasses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the control plane."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.integration)


def gateway_crds() -> Iterator[Path]:
    """The Gateway API's CRDs, of the version that the local cluster's gateway is built from."""
    listing = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", GATEWAY_API],
        cwd=binaries.source("contour"),
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(listing.stdout.strip()) / "config" / "crd" / "experimental"
    for plural in GATEWAY_CRDS:
        yield folder / f"gateway.networking.k8s.io_{plural}.yaml"


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager, with our CRDs and the Gateway API's."""
    with ControlPlane(tmp_path_factory.mktemp("controlplane")) as cluster:
        files = [*(REPO / "crds").glob("policy*.yaml"), *gateway_crds()]
        for file in files:
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield cluster


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """An administrator's client. OpenAPI and discovery know our kinds when it is given out."""
    client = Api(control_plane.kubeconfig)
    for plural in ("policytrainings", "policydeployments", "policyversions"):
        name = f"{plural}.policyops.dev"
        until(
            f"{name} is established",
            lambda name=name: (
                condition(client.get("CustomResourceDefinition", None, name), "Established")[
                    "status"
                ]
                == "True"
            ),
        )
    yield client
    client.close()


@pytest.fixture(scope="session")
def node(api: Api) -> Iterator[PlayedNode]:
    """The background node and gateway."""
    played = PlayedNode(api)
    played.start()
    yield played
    played.stop()
    assert not played.errors


@pytest.fixture(scope="session")
def prometheus(api: Api) -> Iterator[PlayedPrometheus]:
    """The Prometheus that operators ask."""
    played = PlayedPrometheus(api)
    played.start()
    yield played
    played.stop()


@pytest.fixture(scope="session")
def gateway(api: Api) -> Obj:
    """The Gateway that routes attach to; `node` plays its controller."""
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


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = new_namespace(api)
    yield name
    api.delete("Namespace", None, name)


@pytest.fixture
def kubelet(api: Api, namespace: str) -> Kubelet:
    """Plays the pods of the test's namespace."""
    return Kubelet(api, namespace)


@pytest.fixture(scope="session")
def start_operator(
    control_plane: ControlPlane,
    prometheus: PlayedPrometheus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators: `start_operator(namespace, kubeconfig, **env)`; all end at the end."""
    started: list[OperatorProcess] = []

    def start(namespace: str, kubeconfig: Path | None = None, **env: str) -> OperatorProcess:
        process = OperatorProcess(
            kubeconfig or control_plane.kubeconfig,
            namespace,
            tmp_path_factory.mktemp("operator"),
            {"POLICYOPS_PROMETHEUS_URL": prometheus.url, **env},
        )
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="module")
def operator(api: Api, start_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """An operator for the tests of one module; it looks after all namespaces."""
    process = start_operator(new_namespace(api, "operator"))
    process.wait_ready()
    yield process
    process.stop()
    assert not process.tracebacks(), process.tracebacks()
