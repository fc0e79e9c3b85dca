"""One real control plane for all integration tests, a namespace and an operator for each that asks.

Deleted namespaces are not waited for: the names are never used again.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from controlplane import ControlPlane, Options
from integration import rights
from integration.client import Api, Obj, condition, new_namespace, until
from integration.kubelet import Kubelet, PlayedNode
from integration.monitoring import PlayedPrometheus
from integration.operator_process import OperatorProcess
from integration.prepare import install, make_gateway


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the control plane; bursts come last: they leave much behind."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.integration)
    last = ("test_burst.py", "test_rights.py")
    items.sort(key=lambda item: last.index(item.path.name) if item.path.name in last else -1)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager, with our CRDs and the Gateway API's."""
    folder = tmp_path_factory.mktemp("controlplane")
    with ControlPlane(folder, Options(audited=rights.USER)) as cluster:
        install(cluster)
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
    return make_gateway(api)


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
def operator_kubeconfig(control_plane: ControlPlane) -> Path:
    """The operators' way to the API server: with the rights that we ship."""
    return rights.grant_cluster(control_plane)


@pytest.fixture(scope="session")
def make_operator(
    api: Api,
    operator_kubeconfig: Path,
    prometheus: PlayedPrometheus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., OperatorProcess]:
    """Make operators, not started yet: `make_operator(namespace, **env)`."""

    def make(namespace: str, **env: str) -> OperatorProcess:
        folder = tmp_path_factory.mktemp("operator")
        full = {"POLICYOPS_PROMETHEUS_URL": prometheus.url, **env}
        rights.grant_home(api, namespace)
        return OperatorProcess(operator_kubeconfig, namespace, folder, full)

    return make


@pytest.fixture
def start_operator(
    make_operator: Callable[..., OperatorProcess],
) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators of the test's own: `start_operator(namespace, **env)`; they end with it."""
    started: list[OperatorProcess] = []

    def start(namespace: str, **env: str) -> OperatorProcess:
        process = make_operator(namespace, **env)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def operator(api: Api, make_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """An operator for the tests of one module; it looks after all namespaces."""
    process = make_operator(new_namespace(api, "operator"))
    process.start()
    process.wait_ready()
    yield process
    process.stop()
    assert not process.tracebacks(), process.tracebacks()


@pytest.fixture
def status(api: Api, namespace: str) -> Callable[..., Obj]:
    """Return the status of a training; with a state, wait until it is in it."""

    def wait(state: str = "", name: str = "forge") -> Obj:
        def look() -> Obj:
            found: Obj = api.get("PolicyTraining", namespace, name).get("status", {})
            assert not state or found.get("state") == state, (found.get("state"), found)
            return found

        return until(f"{name} is {state}", look)

    return wait
