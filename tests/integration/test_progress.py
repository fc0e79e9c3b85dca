"""Progress by KEP-2779, with tokens that the real API server issues and reviews."""

import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from integration.client import Api, until
from integration.kubelet import Kubelet
from integration.objects import completed, training
from integration.operator_process import OperatorProcess

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("node")


@dataclass(frozen=True)
class Running:
    """A training whose pod runs, and what that pod has to report with."""

    api: Api
    namespace: str
    name: str
    url: str
    client: httpx.Client
    pod: Obj

    def token(self, audience: str = "policyops.dev", *, bound: bool = True, **pod: str) -> str:
        """Return a token as the kubelet projects it; `pod` replaces the pod it is bound to."""
        meta = {**self.pod["metadata"], **pod}
        ref = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec = {"audiences": [audience], "expirationSeconds": 600}
        if bound:
            spec["boundObjectRef"] = ref
        path = self.api.path("ServiceAccount", self.namespace, "default", "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token: str = self.api.call("POST", path, body)["status"]["token"]
        return token

    def post(self, body: Any, token: str | None, url: str | None = None) -> httpx.Response:
        """Report."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return self.client.post(url or self.url, json=body, headers=headers)


def report(percent: int, **metrics: float) -> Obj:
    named = [{"name": k, "value": str(v)} for k, v in metrics.items()]
    return {
        "trainerStatus": {
            "progressPercentage": percent,
            "estimatedRemainingSeconds": 90,
            "metrics": named,
            "lastUpdatedTime": "2026-01-02T03:04:05Z",
        }
    }


@pytest.fixture
def running(
    api: Api, namespace: str, kubelet: Kubelet, operator: OperatorProcess
) -> Iterator[Callable[..., Running]]:
    """Start a training with one running pod; the client trusts the CA of its ConfigMap alone."""
    clients: list[httpx.Client] = []

    def start(name: str = "forge") -> Running:
        api.create(training(namespace, name))
        (pod,) = kubelet.run(f"{name}-0")
        until(
            "the operator knows that it runs",
            lambda: api.get("PolicyTraining", namespace, name)["status"]["state"] == "Training",
        )
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        ca = api.get("ConfigMap", namespace, f"{name}-0")["data"]["ca.crt"]
        client = httpx.Client(verify=ssl.create_default_context(cadata=ca), trust_env=False)
        clients.append(client)
        url = env["KUBEFLOW_TRAINER_SERVER_URL"]
        return Running(api, namespace, name, url, client, pod)

    yield start
    for client in clients:
        client.close()


def progress(api: Api, namespace: str, name: str = "forge") -> Obj:
    found: Obj = api.get("PolicyTraining", namespace, name)["status"]["progress"]
    return found


def test_a_report_reaches_the_status(running: Callable[..., Running], kubelet: Kubelet) -> None:
    run = running()
    token = run.token()
    first = report(10, loss=2.5, current_step=10, total_steps=100)
    assert run.post(first, token).status_code == 200
    seen = until("progress", lambda: progress(run.api, run.namespace))
    assert (seen["percent"], seen["step"], seen["maxSteps"]) == (10, 10, 100)
    assert seen["remainingSeconds"] == 90
    status = run.api.get("PolicyTraining", run.namespace, "forge")["status"]
    assert [(m["name"], m["value"]) for m in status["metrics"]] == [("loss", 2.5)]

    # Written at most once in 5 s; the newest is never lost.
    for percent in (20, 30, 40):
        assert run.post(report(percent, loss=1.0), token).status_code == 200
    until("the newest", lambda: progress(run.api, run.namespace)["percent"] == 40)
    kubelet.end("forge-0", 0, completed(1))
    until("the end", lambda: progress(run.api, run.namespace)["percent"] == 100)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda run: None, 401),
        (lambda run: "no-token-at-all", 401),
        (lambda run: run.token("https://kubernetes.default.svc.cluster.local"), 401),
        (lambda run: run.token("somebody-else"), 401),
        (lambda run: run.token(bound=False), 401),
    ],
    ids=["none", "garbage", "API server's audience", "other audience", "bound to no pod"],
)
def test_a_wrong_token_is_refused(
    running: Callable[..., Running], make: Callable[[Running], str | None], code: int
) -> None:
    run = running()
    answer = run.post(report(50), make(run))
    assert answer.status_code == code, answer.text
    assert run.post(report(10), run.token()).status_code == 200
    assert until("progress", lambda: progress(run.api, run.namespace))["percent"] == 10


def test_a_pod_reports_for_its_own_training_only(
    running: Callable[..., Running], kubelet: Kubelet
) -> None:
    mine, other = running("mine"), running("other")
    answer = mine.post(report(99), mine.token(), other.url)
    assert answer.status_code == 403, answer.text
    labels = mine.pod["metadata"]["labels"]
    labels = {k: v for k, v in labels.items() if k.startswith(("policyops.dev", "app."))}
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": mine.namespace, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    pod = mine.api.create(stranger)["metadata"]
    token = mine.token(name=pod["name"], uid=pod["uid"])
    assert mine.post(report(99), token).status_code == 403
    assert mine.post(report(5), mine.token()).status_code == 200
    assert until("progress", lambda: progress(mine.api, mine.namespace, "mine"))["percent"] == 5
    assert "progress" not in mine.api.get("PolicyTraining", mine.namespace, "other")["status"]


def test_a_bad_body_is_told(running: Callable[..., Running]) -> None:
    run = running()
    token = run.token()
    bad = run.post({"trainerStatus": {"progressPercentage": 150}}, token)
    assert bad.status_code == 400
    assert "trainerStatus.progressPercentage" in bad.text
    headers = {"Authorization": f"Bearer {token}"}
    large = run.client.post(run.url, content=b" " * (64 * 1024 + 1), headers=headers)
    assert large.status_code == 413
    unknown = run.post(report(5), token, run.url.replace("forge", "nobody"))
    assert unknown.status_code in (403, 404)


def test_no_number_of_a_trainer_keeps_its_status_from_being_written(
    running: Callable[..., Running], kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    run = running()
    body = report(10, loss=float("nan"), reward=0.5, huge=float("inf"), current_step=1e300)
    told = body["trainerStatus"]
    told["estimatedRemainingSeconds"] = 10**400
    told["metrics"] += [{"name": "reward", "value": "0.7"}, {"name": "n" * 64, "value": "1"}]
    assert run.post(body, run.token()).status_code == 200
    seen = until("progress", lambda: progress(run.api, run.namespace))
    assert (seen["step"], seen["remainingSeconds"]) == (2**53 - 1, 2**31 - 1)
    assert [(m["name"], m["value"]) for m in status()["metrics"]] == [("reward", 0.7)]

    end = json.loads(completed(1))
    end["metrics"] = [{"name": f"m{i}", "value": i, "step": 10**300} for i in range(64)]
    end["metrics"] += [{"name": "eval_loss", "value": 9}, {"name": "eval_loss", "value": 1.5}]
    kubelet.end("forge-0", 0, json.dumps({**end, "step": 10**400}))
    assert len(status("Succeeded")["metrics"]) == 64
    made = run.api.get("PolicyVersion", run.namespace, "forge-v1")["spec"]["metrics"]
    assert len(made) == 64
    assert {"name": "eval_loss", "value": 1.5} in made


def test_the_certificate_is_for_our_names_alone(
    running: Callable[..., Running], operator: OperatorProcess
) -> None:
    run = running()
    with pytest.raises(httpx.ConnectError):
        httpx.get(operator.url, trust_env=False)
    assert run.client.get(f"{operator.url}/").status_code == 404
