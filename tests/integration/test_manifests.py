"""What we ship: as it is rendered, and what its admission policies refuse."""

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path

import binaries
import pytest
import yaml
from controlplane import ControlPlane
from integration.client import Api, Obj, Refused, new_namespace, until
from integration.objects import deployment, training, version
from integration.operator_process import REPO

GOLDEN = Path(__file__).parent / "golden"
MANIFESTS = REPO / "manifests"


def rendered(folder: Path) -> list[Obj]:
    """Return what `kubectl kustomize` makes of a folder, without the CRDs, which have their own."""
    program = str(binaries.path("kubectl"))
    made = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, check=True
    )
    found = yaml.safe_load_all(made.stdout)
    return [m for m in found if m["kind"] != "CustomResourceDefinition"]


@pytest.mark.parametrize("name", ["base", "namespaced", "namespaced/namespace"])
def test_manifests_are_rendered_as_recorded(control_plane: ControlPlane, name: str) -> None:
    made = rendered(MANIFESTS / name)
    golden = GOLDEN / f"{name.replace('/', '-')}.yaml"
    assert made == list(yaml.safe_load_all(golden.read_text()))
    # …and the API server takes every one of them.
    flags = ("--server-side", "--dry-run=server", "--force-conflicts", "-f", "-")
    control_plane.kubectl("create", "namespace", "policy-operator-system", "--save-config=false")
    try:
        control_plane.kubectl("apply", *flags, stdin=yaml.safe_dump_all(made))
    finally:
        control_plane.kubectl("delete", "namespace", "policy-operator-system", "--wait")


@pytest.fixture
def guarded(api: Api, control_plane: ControlPlane) -> Iterator[str]:
    """A namespace in which the admission policy about Secrets counts."""
    name = new_namespace(api)
    wanted = [m for m in rendered(MANIFESTS / "base") if m["metadata"]["name"].endswith("-secrets")]
    for manifest in wanted:
        if "validationActions" in manifest["spec"]:
            only = {"matchLabels": {"kubernetes.io/metadata.name": name}}
            manifest["spec"]["matchResources"] = {"namespaceSelector": only}
    text = yaml.safe_dump_all(wanted)
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    yield name
    control_plane.kubectl("delete", "-f", "-", stdin=text)
    api.delete("Namespace", None, name)


def allow(api: Api, namespace: str, user: str, *rules: Obj) -> None:
    """Give a user rights in the namespace."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": user, "namespace": namespace},
        "rules": list(rules),
    }
    binding = {
        **role,
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    del binding["rules"]
    api.create(role)
    api.create(binding)


def test_only_who_may_read_a_secret_may_name_it(api: Api, guarded: str) -> None:
    ours = {"apiGroups": ["policyops.dev"], "verbs": ["create", "patch"]}
    plurals = ["policytrainings", "policyversions", "policydeployments"]
    mine = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]}
    make = {**ours, "resources": plurals}
    allow(api, guarded, "jane", make, {**mine, "verbs": ["get"]})
    status = {"apiGroups": ["policyops.dev"], "resources": ["policyversions/status"]}
    allow(api, guarded, "recorder", make, {**status, "verbs": ["patch"]})

    def create(user: str, manifest: Obj) -> Obj:
        path = api.path(manifest["kind"], guarded)
        return api.call("POST", path, manifest, headers={"Impersonate-User": user})

    def named(secret: str, name: str) -> Obj:
        store = {"uri": "s3://bucket/models", "secretRef": {"name": secret}}
        return training(guarded, name, artifact=store)

    def refused() -> str:
        try:
            create("jane", named("theirs", "stolen"))
        except Refused as error:
            return error.message
        api.delete("PolicyTraining", guarded, "stolen")
        raise AssertionError("the policy does not count yet")

    said = until("the admission policy counts", refused)
    sentence = f"jane may not get Secret theirs in namespace {guarded}: name a Secret that you may"
    assert sentence in said
    assert create("jane", named("mine", "own"))["metadata"]["name"] == "own"
    assert create("jane", training(guarded, "none"))["metadata"]["name"] == "none"
    judge = {
        "criteria": [{"name": "good", "description": "Is it good?"}],
        "endpoint": {
            "url": "https://judge.example/v1",
            "model": "judge",
            "secretRef": {"name": "theirs", "key": "key"},
        },
    }
    rewards = [{"name": "good", "weight": 1.0, "judge": "good"}]
    rated = training(guarded, "rated", recipe="GRPO", grpo={"rewards": rewards}, judge=judge)
    del rated["spec"]["sft"]
    with pytest.raises(Refused, match="may not get Secret theirs"):
        create("jane", rated)
    stolen = version(guarded, 1, "forge")
    stolen["spec"]["artifact"]["secretRef"] = {"name": "theirs"}
    with pytest.raises(Refused, match="may not get Secret theirs"):
        create("jane", stolen)
    callers = {"type": "Token", "token": {"secretRef": {"name": "theirs", "key": "tokens"}}}
    served = deployment(guarded, "served", server={"auth": callers})
    logged = deployment(guarded, "l", server={"decisionLog": {"secretRef": {"name": "theirs"}}})
    for stolen_from in (served, logged):
        with pytest.raises(Refused, match="may not get Secret theirs"):
            create("jane", stolen_from)
    own = copy.deepcopy(served)
    own["spec"]["server"]["auth"]["token"]["secretRef"]["name"] = "mine"
    own["metadata"]["name"] = "own"
    assert create("jane", own)["metadata"]["name"] == "own"
    assert create("jane", deployment(guarded, "open"))["metadata"]["name"] == "open"
    api.create(served)
    path = api.path("PolicyDeployment", guarded, "served")
    merge = {"Impersonate-User": "jane", "Content-Type": "application/merge-patch+json"}
    # Which version serves tells nothing of the Secret; which image reads it does.
    changed = api.call("PATCH", path, {"spec": {"target": {"version": 2}}}, headers=merge)
    assert changed["spec"]["target"] == {"version": 2}
    with pytest.raises(Refused, match="may not get Secret theirs"):
        api.call("PATCH", path, {"spec": {"server": {"image": "jane/reader:1"}}}, headers=merge)
    # The operator records what a training named: it may not read Secrets, but write statuses.
    assert create("recorder", stolen)["metadata"]["name"] == "forge-v1"


def places(secret: str) -> Iterator[Obj]:
    """Yield a server template for each place in it that names a Secret."""
    named, key = {"name": secret}, {"name": secret, "key": "k"}
    container = {"name": "beside", "image": "x"}
    yield {"imagePullSecrets": [named]}
    yield {"volumes": [{"name": "v", "secret": {"secretName": secret}}]}
    yield {"volumes": [{"name": "v", "projected": {"sources": [{"secret": named}]}}]}
    yield {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": named}}]}
    for part in ("containers", "initContainers"):
        yield {part: [{**container, "envFrom": [{"secretRef": named}]}]}
        env = {"name": "E", "valueFrom": {"secretKeyRef": key}}
        yield {part: [{**container, "env": [{"name": "A", "value": "b"}, env]}]}


def test_a_pod_template_names_only_what_its_author_may_read_and_be(api: Api, guarded: str) -> None:
    mine = [f"mine-{number}" for number in range(9)]
    own = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": mine, "verbs": ["get"]}
    ours = {"apiGroups": ["policyops.dev"], "resources": ["policydeployments"]}
    account = {
        "apiGroups": [""],
        "resources": ["serviceaccounts/token"],
        "resourceNames": ["robot"],
        "verbs": ["create"],
    }
    allow(api, guarded, "jane", {**ours, "verbs": ["create", "patch"]}, own, account)

    def say(pod: Obj) -> str:
        made = deployment(guarded, server={"template": {"spec": pod}})
        try:
            path = api.path("PolicyDeployment", guarded)
            params = {"dryRun": "All"}
            api.call("POST", path, made, headers={"Impersonate-User": "jane"}, params=params)
        except Refused as error:
            return error.message
        return ""

    until("the admission policy counts", lambda: say(next(places("theirs"))))
    for pod in places("theirs"):
        assert "jane may not get Secret theirs in namespace" in say(pod), pod
    for pod in places("mine-0"):
        assert say(pod) == "", pod
    pulls = [{"name": name} for name in mine]
    assert say({"imagePullSecrets": [*pulls[:8], *pulls[:8]]}) == ""
    assert "more than 8 Secrets are named" in say({"imagePullSecrets": pulls})
    last = {"imagePullSecrets": [*pulls[:7], {"name": "theirs"}]}
    assert "jane may not get Secret theirs" in say(last)
    assert say({"serviceAccountName": "robot"}) == ""
    assert "jane may not create tokens of ServiceAccount admin" in say({"serviceAccount": "admin"})
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    assert "of ServiceAccount default" in say({"volumes": [token]})
    # What stays as it was is not asked about again; a change of the server is.
    (pod,) = [next(places("theirs"))]
    api.create(deployment(guarded, server={"template": {"spec": pod}}))
    path = api.path("PolicyDeployment", guarded, "forge")
    merge = {"Impersonate-User": "jane", "Content-Type": "application/merge-patch+json"}
    api.call("PATCH", path, {"spec": {"target": {"version": 2}}}, headers=merge)
    with pytest.raises(Refused, match="may not get Secret theirs"):
        api.call("PATCH", path, {"spec": {"server": {"replicas": 2}}}, headers=merge)
