"""The operators of the tests have the rights that we ship, no more; what they ask for is kept.

The API server writes every call of their user into its audit log. So a call that the shipped roles
do not allow fails the test that made it, and a right that no test uses is found in the end.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from controlplane import ControlPlane
from integration.client import Api, Obj
from integration.operator_process import REPO

USER = "policy-operator"
NAMESPACED = "policy-operator-namespaced"  # a user with the rights of manifests/namespaced
BASE = REPO / "manifests" / "base"
BINDING = REPO / "manifests" / "namespaced" / "namespace" / "rolebinding.yaml"


class Right(NamedTuple):
    """A verb on a resource: `batch`, `jobs`, `create`."""

    group: str
    resource: str
    verb: str


def _shipped(user: str = USER) -> Iterator[Obj]:
    for name in ("rbac.yaml", "rbac-namespaces.yaml"):
        for manifest in yaml.safe_load_all((BASE / name).read_text()):
            if "subjects" in manifest:
                manifest["subjects"] = _subjects(user)
            if manifest["kind"] != "ServiceAccount":
                yield manifest


def _subjects(user: str) -> list[Obj]:
    return [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]


def grant_cluster(cluster: ControlPlane) -> Path:
    """Give the operators' user its rights in the cluster; return the kubeconfig it comes with."""
    wanted = [m for m in _shipped() if m["kind"].startswith("Cluster")]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(wanted))
    return _kubeconfig(cluster, USER)


def grant_namespaced(cluster: ControlPlane, home: str, *namespaces: str) -> Path:
    """Give another user the rights of manifests/namespaced; return the kubeconfig it comes with."""
    wanted = [
        m
        for m in _shipped(NAMESPACED)
        if m["kind"] == "ClusterRoleBinding" and m["metadata"]["name"].endswith("-tokenreview")
    ]
    wanted[0]["metadata"]["name"] += "-namespaced"
    wanted += _homely(NAMESPACED, home)
    for namespace in namespaces:
        binding = yaml.safe_load(BINDING.read_text())
        binding["metadata"]["namespace"] = namespace
        wanted.append({**binding, "subjects": _subjects(NAMESPACED)})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(wanted))
    return _kubeconfig(cluster, NAMESPACED)


def _kubeconfig(cluster: ControlPlane, user: str) -> Path:
    authority = cluster.authority()
    pair = authority.issue(user, user)
    return authority.kubeconfig(cluster.folder / f"{user}.kubeconfig", cluster.server, pair, user)


def _homely(user: str, namespace: str) -> list[Obj]:
    """Return what an operator needs in the namespace that it runs in."""
    found = [m for m in _shipped(user) if m["kind"] in ("Role", "RoleBinding")]
    for manifest in found:
        manifest["metadata"]["namespace"] = namespace
    return found


def grant_home(api: Api, namespace: str) -> None:
    """Give the operators' user what it needs in the namespace that an operator runs in."""
    for manifest in _homely(USER, namespace):
        if api.find(manifest["kind"], namespace, manifest["metadata"]["name"]) is None:
            api.create(manifest)


# Not calls of their own. An apply that makes an object is a patch, which the API server also
# authorizes as a create; admission asks for the right to the finalizers of an owner whose deletion
# an owner reference blocks. These tests would fail without either.
UNSEEN = {
    Right("apps", "deployments", "create"),
    Right("policy", "poddisruptionbudgets", "create"),
    Right("autoscaling", "horizontalpodautoscalers", "create"),
    Right("gateway.networking.k8s.io", "httproutes", "create"),
    Right("monitoring.coreos.com", "podmonitors", "create"),
    Right("monitoring.coreos.com", "prometheusrules", "create"),
    Right("networking.k8s.io", "networkpolicies", "create"),
    Right("policyops.dev", "policytrainings/finalizers", "update"),
    Right("policyops.dev", "policydeployments/finalizers", "update"),
}


def granted() -> set[Right]:
    """Return every right that we ship."""
    return {
        Right(group, resource, verb)
        for manifest in _shipped()
        for rule in manifest.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(log: Path) -> tuple[set[Right], set[Right]]:
    """Return what the operators asked for, and which of it their roles did not allow."""
    used: set[Right] = set()
    forbidden: set[Right] = set()
    for line in log.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        ref = event.get("objectRef")
        if ref is None or "resource" not in ref:
            continue  # discovery
        resource = "/".join(part for part in (ref["resource"], ref.get("subresource")) if part)
        right = Right(ref.get("apiGroup", ""), resource, event["verb"])
        used.add(right)
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
            forbidden.add(right)
    return used, forbidden
