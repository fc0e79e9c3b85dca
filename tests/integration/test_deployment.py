"""Rollouts from the first version to promotion or rollback, with a real Deployment controller."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from integration.client import Api, condition, until
from integration.kubelet import Kubelet, PlayedNode
from integration.monitoring import PlayedPrometheus
from integration.objects import completed, notification, training
from integration.operator_process import OperatorProcess
from integration.rollout import Alertmanager, Ledger, Rollout

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node", "gateway")

HOLDS: Obj = {
    "steps": [
        {"name": "canary", "weight": 10, "holdSeconds": 600},
        {"name": "half", "weight": 50, "holdSeconds": 600},
    ]
}
QUICK: Obj = {
    "steps": [
        {"name": "canary", "weight": 10, "holdSeconds": 1},
        {"name": "half", "weight": 50, "holdSeconds": 1},
    ]
}


@pytest.fixture
def rollout(api: Api, namespace: str) -> Rollout:
    """The test's PolicyDeployment, not created yet."""
    return Rollout(api, namespace)


@pytest.fixture
def alertmanager(api: Api, operator: OperatorProcess) -> Iterator[Alertmanager]:
    """Posts alerts to the operator."""
    made = Alertmanager(api, operator)
    yield made
    made.close()


def canary(rollout: Rollout) -> None:
    """Bring version 2 to the first step, where it is held."""
    rollout.serve(1, rollout=HOLDS)
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Canary", stable=1, candidate=2)
    until("weights 90 and 10", lambda: rollout.weights() == {1: 90, 2: 10})


def test_the_first_version_serves_all_traffic(api: Api, namespace: str, rollout: Rollout) -> None:
    rollout.serve(1, server={"replicas": 2})
    assert rollout.weights() == {1: 100}
    status = until(
        "Ready",
        lambda: (
            (s := rollout.status) and condition({"status": s}, "Ready")["status"] == "True" and s
        ),
    )
    assert status["stable"]["weight"] == 100
    assert "candidate" not in status
    assert status["url"] == "http://203.0.113.7/"
    server = api.get("Deployment", namespace, "forge-v1")
    assert server["spec"]["replicas"] == 2
    pod = server["spec"]["template"]["spec"]
    env = {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
    assert env["POLICY_ARTIFACT_PATH"] == "/var/lib/policyops/pvc/models/forge/1"
    assert (env["POLICY_NAME"], env["POLICY_VERSION"]) == ("forge", "1")
    assert pod["securityContext"]["runAsNonRoot"] is True
    route = api.get("HTTPRoute", namespace, "forge")
    (ref,) = route["spec"]["rules"][0]["backendRefs"]
    header = ref["filters"][0]["requestHeaderModifier"]["set"][0]
    assert (header["name"], header["value"]) == ("x-policyops-role", "stable")
    version = api.get("PolicyVersion", namespace, "forge-v1")
    assert version["status"]["serving"] == [
        {"deployment": "forge", "role": "stable", "weight": 100}
    ]
    assert condition(version, "Serving")["status"] == "True"


def test_below_a_path_there_is_one_rule_a_published_path_all_of_one_split(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1, rollout=HOLDS)
    parents = {"parentRefs": [{"name": "public", "namespace": "gateways"}]}
    rollout.edit({"spec": {"traffic": {**parents, "path": "/review"}}})
    paths = {f"/review/v1/{p}" for p in ("decisions", "scores", "feedback", "chat/completions")}

    def published() -> bool:
        rules = api.get("HTTPRoute", namespace, "forge")["spec"]["rules"]
        return {m["path"]["value"] for r in rules for m in r["matches"]} == paths

    until("the API server has taken the rules", published)
    ledger = Ledger(api, namespace)
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Canary", stable=1, candidate=2)
    assert rollout.weights() == {1: 90, 2: 10}
    assert ledger.splits == [{1: 100}, {1: 90, 2: 10}]


def test_a_canary_goes_up_step_by_step_and_is_promoted(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1, rollout=QUICK)
    ledger = Ledger(api, namespace)
    rollout.register(2)
    rollout.target(2)
    status = rollout.wait("Promoted", stable=2)
    assert rollout.weights() == {2: 100, 1: 0}
    assert ledger.splits == [{1: 100}, {1: 90, 2: 10}, {1: 50, 2: 50}, {2: 100}]
    assert status["previous"]["version"] == 1
    assert [t["event"] for t in status["history"]][-4:] == ["Started", "Step", "Step", "Promoted"]
    assert api.get("PolicyVersion", namespace, "forge-v1")["status"]["serving"] == []
    assert rollout.servers() == ["forge-v1", "forge-v2"]


def test_weight_moves_only_when_the_candidate_is_ready(
    api: Api, namespace: str, rollout: Rollout, node: PlayedNode
) -> None:
    rollout.serve(1)
    node.hold(namespace, "2")
    ledger = Ledger(api, namespace)
    rollout.register(2)
    rollout.target(2)
    status = rollout.wait("WaitingForServer", candidate=2)
    pods = "policyops.dev/deployment=forge,policyops.dev/version=2"
    (pod,) = until("the candidate's pod", lambda: api.list("Pod", namespace, pods))
    back_off = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    Kubelet(api, namespace).set(pod, "Pending", back_off, ready=False)
    until(
        "the status says why",
        lambda: (
            "ImagePullBackOff: no such image"
            in condition({"status": rollout.status}, "Progressing")["message"]
        ),
        show=lambda: rollout.status,
    )
    assert status["candidate"]["weight"] == 0
    assert ledger.splits == [{1: 100}]
    node.release(namespace, "2")
    rollout.wait("Promoted", stable=2)
    assert ledger.splits == [{1: 100}, {1: 90, 2: 10}, {1: 50, 2: 50}, {2: 100}]


def test_weight_moves_only_when_the_gateway_has_taken_the_route(
    api: Api, namespace: str, rollout: Rollout, node: PlayedNode
) -> None:
    rollout.serve(1)
    node.hold(namespace, "route")
    rollout.register(2)
    rollout.target(2)
    rollout.wait("WaitingForRoute", candidate=2)
    assert rollout.weights() == {1: 100, 2: 0}
    node.release(namespace, "route")
    rollout.wait("Promoted", stable=2)


def test_a_canary_does_not_go_on_before_its_alerts_could_fire(
    namespace: str, rollout: Rollout, prometheus: PlayedPrometheus
) -> None:
    rollout.serve(1)
    prometheus.unload(namespace)
    rollout.register(2)
    # Other rules than before, so that the answer that Prometheus gave earlier is of no use.
    latency = {"name": "Slow", "preset": "Latency", "max": 2}
    rollout.edit({"spec": {"target": {"version": 2}, "alerts": [latency]}})
    status = rollout.wait("WaitingForMonitoring", candidate=2)
    message = condition({"status": status}, "Progressing")["message"]
    assert message == (
        "v2 takes no more traffic: Prometheus has not loaded this deployment's alert rules"
    )
    assert rollout.weights() == {1: 100, 2: 0}
    prometheus.load(namespace)
    rollout.wait("Promoted", stable=2)


def test_an_alert_takes_all_traffic_back_before_it_is_answered(
    api: Api,
    namespace: str,
    rollout: Rollout,
    alertmanager: Alertmanager,
    record_property: Callable[[str, object], None],
) -> None:
    canary(rollout)
    began = time.perf_counter()
    alertmanager.notify(namespace, version=2)
    seconds = time.perf_counter() - began
    # 2xx means that it is done: no waiting here.
    assert rollout.weights() == {1: 100, 2: 0}
    record_property("alert_to_weights_seconds", round(seconds, 4))
    assert seconds < 2
    status = rollout.wait("RolledBack", stable=1)
    assert status["stable"]["weight"] == 100
    assert "candidate" not in status
    (entry,) = status["rejected"]
    sentence = "alert HighErrorRate fired: 12% of the decisions failed"
    assert (entry["version"], entry["reason"]) == (2, sentence)
    rejected = rollout.rejected(2)
    assert rejected is not None
    assert rejected["reason"] == "HighErrorRate"
    assert rejected["message"] == f"rolled back in PolicyDeployment forge: {sentence}"
    until("the candidate's pods are gone", lambda: rollout.servers() == ["forge-v1"])
    assert rollout.weights() == {1: 100}
    events = [e["reason"] for e in api.list("Event", namespace) if e["type"] == "Warning"]
    assert "RolledBack" in events


def test_rollback_is_terminal_until_a_person_retries(
    namespace: str, rollout: Rollout, alertmanager: Alertmanager
) -> None:
    canary(rollout)
    alertmanager.notify(namespace, version=2)
    rollout.wait("RolledBack", stable=1)
    alertmanager.notify(namespace, version=2)  # at least once: again changes nothing
    alertmanager.notify(namespace, version=2, status="resolved")
    rollout.target(1)
    rollout.wait("Promoted", stable=1)
    rollout.target(2)
    status = rollout.wait("RolledBack", stable=1)
    assert condition({"status": status}, "Progressing")["message"].endswith(
        "set another target, or policyops.dev/retry: 2"
    )
    assert rollout.weights().get(2, 0) == 0
    rollout.annotate(retry="2")
    rollout.wait("Canary", stable=1, candidate=2)
    until("it is no longer rejected", lambda: rollout.rejected(2) is None)
    assert rollout.status.get("rejected", []) == []


def test_abort_takes_the_candidate_back_without_rejecting_it(
    namespace: str, rollout: Rollout
) -> None:
    canary(rollout)
    rollout.annotate(abort="2026-01-02")
    status = rollout.wait("Aborted", stable=1)
    until("weights are back", lambda: rollout.weights().get(2, 0) == 0)
    assert "candidate" not in status
    assert rollout.rejected(2) is None
    rollout.annotate(retry="2")
    rollout.wait("Canary", stable=1, candidate=2)


def test_a_first_version_that_is_aborted_leaves_nothing(
    api: Api, namespace: str, rollout: Rollout, node: PlayedNode
) -> None:
    node.hold(namespace, "1")
    rollout.register(1)
    rollout.create()
    until("it has a route", lambda: api.find("HTTPRoute", namespace, "forge"))
    rollout.annotate(abort="2026-01-02")
    rollout.wait("Aborted")
    api.gone("HTTPRoute", namespace, "forge")
    until("its server is gone", lambda: rollout.servers() == [])


def test_an_alert_after_promotion_brings_the_previous_version_back(
    api: Api, namespace: str, rollout: Rollout, alertmanager: Alertmanager
) -> None:
    rollout.serve(1)
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Promoted", stable=2)
    alertmanager.notify(namespace, version=2)
    assert rollout.weights() == {1: 100, 2: 0}
    status = rollout.wait("RolledBack", stable=1)
    assert [r["version"] for r in status["rejected"]] == [2]
    assert rollout.rejected(2) is not None
    version = api.get("PolicyVersion", namespace, "forge-v1")
    assert version["status"]["serving"] == [
        {"deployment": "forge", "role": "stable", "weight": 100}
    ]


def test_an_alert_that_reached_prometheus_only_is_found_by_the_poll(
    namespace: str, rollout: Rollout, prometheus: PlayedPrometheus
) -> None:
    canary(rollout)
    prometheus.fire(namespace, "HighErrorRate", version="2")
    rollout.wait("RolledBack", stable=1)
    assert rollout.weights().get(2, 0) == 0
    prometheus.calm(namespace, "HighErrorRate")


def test_an_alert_about_another_version_or_an_older_time_does_nothing(
    namespace: str, rollout: Rollout, alertmanager: Alertmanager
) -> None:
    canary(rollout)
    alertmanager.notify(namespace, version=7)
    alertmanager.notify(namespace, since=datetime.now(UTC) - timedelta(hours=1))
    alertmanager.notify(namespace, "somebody-else", version=2)
    alertmanager.notify(namespace, alert="NotOfTheSpec", version=2)
    assert rollout.weights() == {1: 90, 2: 10}
    assert rollout.status["candidate"]["version"] == 2


@pytest.mark.parametrize(
    ("body", "token", "code", "sentence"),
    [
        (notification("x"), "wrong", 401, "send the token of Secret policy-operator-webhook"),
        (notification("x"), "", 401, "send the token of Secret policy-operator-webhook"),
        ({**notification("x"), "version": "3"}, None, 400, "version '3', wanted '4'"),
        ({"version": "4"}, None, 400, "alerts: Field required"),
        ([], None, 400, "not an Alertmanager webhook"),
        (notification("no-such-namespace"), None, 200, "{}"),
        ({**notification("x"), "alerts": [], "new": {"field": 1}}, None, 200, "{}"),
    ],
)
def test_the_webhook_is_guarded(
    alertmanager: Alertmanager, body: Any, token: str | None, code: int, sentence: str
) -> None:
    answer = alertmanager.post(body, token)
    assert answer.status_code == code
    assert sentence in answer.text


@pytest.mark.parametrize(
    ("prepare", "state", "sentence"),
    [
        (lambda r: None, "TargetNotFound", "there is no PolicyVersion forge-v2"),
        (
            lambda r: r.register(2, "False"),
            "TargetNotAccepted",
            "forge-v2 was not accepted by its training's exit criteria",
        ),
    ],
)
def test_a_target_that_may_not_serve_is_refused_and_traffic_stays(
    rollout: Rollout, prepare: Callable[[Rollout], None], state: str, sentence: str
) -> None:
    rollout.serve(1)
    prepare(rollout)
    rollout.target(2)
    status = rollout.wait(state, stable=1)
    assert condition({"status": status}, "Progressing")["message"] == sentence
    assert rollout.weights() == {1: 100}
    assert rollout.servers() == ["forge-v1"]


def test_a_training_as_target_is_waited_for_and_rolled_out(
    api: Api, namespace: str, rollout: Rollout, kubelet: Kubelet
) -> None:
    rollout.create(target={"training": {"name": "forge-sft"}})
    rollout.wait(
        "WaitingForTraining" if api.list("PolicyTraining", namespace) else "TargetNotFound"
    )
    api.create(training(namespace, "forge-sft"))
    kubelet.run("forge-sft-0")
    rollout.wait("WaitingForTraining")
    kubelet.end("forge-sft-0", 0, completed(1))
    rollout.wait("Promoted", stable=1)


def test_deletion_cleans_up_and_keeps_the_versions(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    canary(rollout)
    api.delete("PolicyDeployment", namespace, "forge")
    for kind in ("PolicyDeployment", "Deployment", "Service", "HTTPRoute", "Pod"):
        until(f"no {kind} is left", lambda kind=kind: api.list(kind, namespace) == [])
    api.gone("ConfigMap", namespace, "forge-rules")

    def serving() -> list[Obj]:
        versions = api.list("PolicyVersion", namespace)
        assert len(versions) == 2
        return [s for v in versions for s in v["status"].get("serving", [])]

    until("no version serves", lambda: serving() == [])
    for number in (1, 2):
        version = api.get("PolicyVersion", namespace, f"forge-v{number}")
        assert condition(version, "Serving")["status"] == "False"


def test_a_child_that_somebody_deletes_is_made_again(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1)
    for kind, name in (("HTTPRoute", "forge"), ("Service", "forge-v1"), ("Deployment", "forge-v1")):
        uid = api.get(kind, namespace, name)["metadata"]["uid"]
        api.delete(kind, namespace, name)
        until(
            f"a new {kind}",
            lambda kind=kind, name=name, uid=uid: (
                api.get(kind, namespace, name)["metadata"]["uid"] != uid
            ),
        )


def test_rules_are_a_config_map_where_prometheus_has_no_operator(
    api: Api, namespace: str, rollout: Rollout
) -> None:
    rollout.serve(1)
    made = api.get("ConfigMap", namespace, "forge-rules")
    assert made["metadata"]["labels"]["policyops.dev/prometheus-rules"] == "true"
    ((key, text),) = made["data"].items()
    assert key == f"{namespace}-forge.yaml"
    (group,) = yaml.safe_load(text)["groups"]
    (rule,) = group["rules"]
    assert rule["alert"] == "HighErrorRate"
    assert rule["labels"]["policyops_namespace"] == namespace
    rollout.edit({"spec": {"alerts": []}})
    api.gone("ConfigMap", namespace, "forge-rules")
