"""Where the Prometheus operator is installed: a PrometheusRule, and a PodMonitor."""

from collections.abc import Callable, Iterator

import pytest
from integration import foreign
from integration.client import Api, Obj, condition, new_namespace, until
from integration.kubelet import PlayedNode
from integration.operator_process import OperatorProcess
from integration.rollout import Rollout

pytestmark = pytest.mark.usefixtures("node", "gateway")

KINDS = {"PrometheusRule": "prometheusrules", "PodMonitor": "podmonitors"}
GROUP = "monitoring.coreos.com"


@pytest.fixture
def prometheus_operator(api: Api) -> Iterator[Callable[[], None]]:
    """Install the API of the Prometheus operator: its name and place; the schema is not ours."""

    def install() -> None:
        for kind, plural in KINDS.items():
            api.create(definition(kind, plural))
            until(f"{kind} is served", lambda kind=kind: served(api, kind))

    yield install
    for plural in KINDS.values():
        api.delete("CustomResourceDefinition", None, f"{plural}.{GROUP}")
        api.gone("CustomResourceDefinition", None, f"{plural}.{GROUP}")


def definition(kind: str, plural: str) -> Obj:
    """Return the definition of a kind, as far as it matters to us."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def served(api: Api, kind: str) -> bool:
    """Whether the API server takes objects of the kind."""
    found = api.get("CustomResourceDefinition", None, f"{KINDS[kind]}.{GROUP}")
    return condition(found, "Established")["status"] == "True" and api.list(kind) == []


def test_rules_move_into_a_prometheus_rule_once_its_api_exists(
    api: Api,
    namespace: str,
    start_operator: Callable[..., OperatorProcess],
    prometheus_operator: Callable[[], None],
    node: PlayedNode,
) -> None:
    operator = start_operator(new_namespace(api, "operator"))
    operator.wait_ready()
    rollout = Rollout(api, namespace)
    rollout.serve(1)
    assert api.find("ConfigMap", namespace, "forge-rules") is not None
    prometheus_operator()
    elsewhere = new_namespace(api)
    taken = Rollout(api, elsewhere)
    theirs, whose = foreign.make(api, "PrometheusRule", elsewhere, "forge", ours=False)
    unmonitored, _ = foreign.make(api, "PodMonitor", elsewhere, "forge", ours=False)
    operator.kill()
    operator.start()
    taken.register(1)
    taken.create()
    said = condition({"status": taken.wait("NameConflict")}, "Progressing")["message"]
    assert f"PrometheusRule forge exists and {whose}" in said
    assert f"PodMonitor forge exists and {whose}" in said
    rule = until("a PrometheusRule", lambda: api.find("PrometheusRule", namespace, "forge"))
    (group,) = rule["spec"]["groups"]
    assert [r["alert"] for r in group["rules"]] == ["HighErrorRate"]
    api.gone("ConfigMap", namespace, "forge-rules")
    monitor = until("a PodMonitor", lambda: api.find("PodMonitor", namespace, "forge"))
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": "/metrics"}
    assert monitor["metadata"]["ownerReferences"] == rule["metadata"]["ownerReferences"]
    rollout.register(2)
    rollout.target(2)
    rollout.wait("Promoted", stable=2, seconds=60)
    assert api.get("PrometheusRule", elsewhere, "forge") == theirs
    assert api.get("PodMonitor", elsewhere, "forge") == unmonitored
    for kind in KINDS:
        api.delete(kind, elsewhere, "forge")
    taken.wait("Promoted", stable=1)
    api.delete("Namespace", None, elsewhere)
    # With its owner it goes, once the garbage collector has heard of the new API.
    (owner,) = rule["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("PolicyDeployment", "forge")
    # Where no version runs there is nothing to scrape.
    unused = new_namespace(api)
    node.hold(unused, "1")
    aborted = Rollout(api, unused)
    aborted.register(1)
    aborted.create()
    until("its PodMonitor", lambda: api.find("PodMonitor", unused, "forge"))
    aborted.annotate(abort="1")
    api.gone("PodMonitor", unused, "forge")
    api.delete("Namespace", None, unused)
    rollout.edit({"spec": {"alerts": []}})
    api.gone("PrometheusRule", namespace, "forge")
    operator.stop()
    assert not operator.tracebacks()
