"""What is missing around the operator is said where a person looks, and the rest goes on."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from integration.client import Api, Obj, until
from integration.monitoring import PlayedPrometheus
from integration.objects import notification, training
from integration.operator_process import OperatorProcess, free_port
from integration.proxy import Loop, Proxy
from integration.rollout import Alertmanager, Rollout

pytestmark = pytest.mark.usefixtures("node", "gateway")

SOON = 40.0  # seconds


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """Runs the proxies."""
    made = Loop()
    yield made
    made.stop()


@pytest.fixture
def proxy(api: Api, namespace: str, loop: Loop) -> Iterator[Proxy]:
    """The operator's way to the API server; not open yet."""
    made = Proxy(api, namespace)
    made.port = free_port()
    yield made
    loop.call(made.stop())


@pytest.fixture
def troubled(
    proxy: Proxy, namespace: str, prometheus: PlayedPrometheus, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator behind the proxy, not started yet; it never crashes."""
    env = {"POLICYOPS_PROMETHEUS_URL": prometheus.url, "POLICYOPS_LEADER_ELECT": "true"}
    process = OperatorProcess(proxy.kubeconfig(tmp_path / "kubeconfig"), namespace, tmp_path, env)
    yield process
    process.stop()
    assert not process.tracebacks(), process.tracebacks()


def probe(operator: OperatorProcess, path: str) -> httpx.Response:
    """Ask as the kubelet does."""
    try:
        return httpx.get(f"http://127.0.0.1:{operator.http_port}{path}", trust_env=False)
    except httpx.TransportError as error:
        raise AssertionError(str(error)) from error


def said(operator: OperatorProcess, word: str) -> int:
    """Count the lines of the log with a word in them."""
    return sum(word in line for line in operator.log.read_text().splitlines())


def test_the_operator_waits_for_an_api_server_and_outlives_its_absence(
    api: Api, namespace: str, proxy: Proxy, loop: Loop, troubled: OperatorProcess
) -> None:
    troubled.start()
    until("it is alive", lambda: probe(troubled, "/healthz").status_code == 200, seconds=SOON)
    until("it has tried", lambda: said(troubled, "has not answered") == 1, seconds=SOON)
    assert probe(troubled, "/readyz").status_code == 503
    assert len(troubled.log.read_text().splitlines()) < 5
    loop.call(proxy.start())
    troubled.wait_ready()
    api.create(training(namespace, "one"))
    until("the first Job", lambda: api.find("Job", namespace, "one-0"), seconds=SOON)
    loop.call(proxy.stop())
    until("it is said again", lambda: said(troubled, "has not answered") >= 2, seconds=SOON)
    # The Lease is lost: the process ends, once, and waits when it is started again.
    until("the leader ended", lambda: not troubled.running(), seconds=SOON)
    assert "the Lease was not renewed" in troubled.tail(3)
    troubled.start()
    lines = len(troubled.log.read_text().splitlines())
    until("it is alive", lambda: probe(troubled, "/healthz").status_code == 200, seconds=SOON)
    api.create(training(namespace, "two"))
    loop.call(proxy.start())
    until("the second Job", lambda: api.find("Job", namespace, "two-0"), seconds=SOON)
    assert len(troubled.log.read_text().splitlines()) - lines < 15


def test_a_kind_that_may_not_be_read_is_named_and_the_rest_goes_on(
    api: Api,
    namespace: str,
    proxy: Proxy,
    loop: Loop,
    troubled: OperatorProcess,
    status: Callable[..., Obj],
) -> None:
    loop.call(proxy.start())
    proxy.forbidden = {"endpointslices"}
    troubled.start()
    troubled.wait_ready()
    assert "EndpointSlice" in probe(troubled, "/readyz").json()["cannotRead"]
    api.create(training(namespace))
    until("trainings need none", lambda: api.find("Job", namespace, "forge-0"), seconds=SOON)
    rollout = Rollout(api, namespace)
    rollout.register(1)
    rollout.create()
    found = rollout.wait("PermissionMissing", seconds=SOON)
    sentence = 'cannot list resource "endpointslices"'
    assert any(sentence in c["message"] for c in found["conditions"])
    until(
        "an Event says so",
        lambda: any(sentence in e["note"] for e in api.list("Event", namespace)),
        seconds=SOON,
    )
    proxy.forbidden = set()
    rollout.wait("Promoted", stable=1)
    assert said(troubled, "EndpointSlice can't be read") == 1


def test_a_webhook_secret_without_a_token_is_named_and_the_rest_goes_on(
    api: Api, namespace: str, proxy: Proxy, loop: Loop, troubled: OperatorProcess
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "policy-operator-webhook", "namespace": namespace},
        "stringData": {"tokn": "mistyped"},
    }
    api.create(secret)
    loop.call(proxy.start())
    troubled.start()
    troubled.wait_ready()
    rollout = Rollout(api, namespace)
    rollout.serve()
    sentence = "policy-operator-webhook has no key token"
    until(
        "an Event of the Secret says so",
        lambda: any(sentence in e["note"] for e in api.list("Event", namespace)),
        seconds=SOON,
    )
    until(
        "and each deployment",
        lambda: any(sentence in c["message"] for c in rollout.status["conditions"]),
        seconds=SOON,
    )
    mended = {"data": {"token": b64encode(b"mended").decode()}}
    api.patch("Secret", namespace, "policy-operator-webhook", mended)
    alertmanager = Alertmanager(api, troubled)
    until(
        "the new token is taken",
        lambda: alertmanager.post(notification(namespace, "nobody")).status_code == 200,
        seconds=SOON,
    )
    alertmanager.close()
