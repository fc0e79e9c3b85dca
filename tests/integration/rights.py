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
BASE = REPO / "manifests" / "base"
_SUBJECTS = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]


class Right(NamedTuple):
    """A verb on a resource: `batch`, `jobs`, `create`."""

    group: str
    resource: str
    verb: str


def _shipped() -> Iterator[Obj]:
    for name in ("rbac.yaml", "rbac-namespaces.yaml"):
        for manifest in yaml.safe_load_all((BASE / name).read_text()):
            if "subjects" in manifest:
                manifest["subjects"] = _SUBJECTS
            if manifest["kind"] != "ServiceAccount":
                yield manifest


def _kinds(*kinds: str) -> str:
    """Return the shipped objects of these kinds, as kubectl reads them."""
    return yaml.safe_dump_all([m for m in _shipped() if m["kind"] in kinds])


def grant_cluster(cluster: ControlPlane) -> Path:
    """Give the operators' user its rights in the cluster; return the kubeconfig it comes with."""
    cluster.kubectl(
        "apply", "--server-side", "-f", "-", stdin=_kinds("ClusterRole", "ClusterRoleBinding")
    )
    authority = cluster.authority()
    pair = authority.issue("operator", USER)
    return authority.kubeconfig(cluster.folder / "operator.kubeconfig", cluster.server, pair, USER)


def grant_home(api: Api, namespace: str) -> None:
    """Give the operators' user what it needs in the namespace that an operator runs in."""
    for manifest in _shipped():
        if manifest["kind"] in ("Role", "RoleBinding"):
            manifest["metadata"]["namespace"] = namespace
            if api.find(manifest["kind"], namespace, manifest["metadata"]["name"]) is None:
                api.create(manifest)


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
