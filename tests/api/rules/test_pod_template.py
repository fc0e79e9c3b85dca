"""A user's pod template under what we must set: how it merges, and what is refused."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.rules.pod_template import TemplateError, Terms, merge

Obj = dict[str, Any]
PLACE = "spec.server.template"
TERMS = Terms(
    place=PLACE,
    free=frozenset({"spec.containers[server].imagePullPolicy"}),
    least=frozenset({"spec.terminationGracePeriodSeconds"}),
    elsewhere={"spec.containers[server].image": "set spec.server.image"},
)
OURS: Obj = {
    "metadata": {"labels": {"policyops.dev/version": "1"}, "annotations": {"a": "ours"}},
    "spec": {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 65,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "containers": [
            {
                "name": "server",
                "image": "i:1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "policy_server"],
                "env": [{"name": "PORT", "value": "8080"}],
                "envFrom": [{"secretRef": {"name": "store"}}],
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "securityContext": {"capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def spec(**fields: Any) -> Obj:
    return {"spec": fields}


def server(**fields: Any) -> Obj:
    return spec(containers=[{"name": "server", **fields}])


def merged(theirs: Obj) -> Obj:
    found: Obj = merge(OURS, theirs, TERMS)["spec"]
    return found


def test_an_empty_template_changes_nothing():
    assert merge(OURS, {}, TERMS) == OURS
    assert merge(OURS, {"metadata": {}, "spec": {}}, TERMS) == OURS


def test_what_we_do_not_set_is_the_users():
    theirs = {
        "metadata": {"labels": {"team": "ml"}, "annotations": {"sidecar.istio.io/inject": "true"}},
        **spec(
            tolerations=[{"key": "gpu", "operator": "Exists"}],
            nodeSelector={"disk": "ssd"},
            affinity={"podAntiAffinity": {}},
            priorityClassName="high",
            runtimeClassName="gvisor",
            serviceAccountName="forge",
            imagePullSecrets=[{"name": "registry"}],
            topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 1}],
        ),
    }
    made = merge(OURS, theirs, TERMS)
    assert made["metadata"]["labels"] == {"policyops.dev/version": "1", "team": "ml"}
    assert made["metadata"]["annotations"] == {"a": "ours", "sidecar.istio.io/inject": "true"}
    assert theirs["spec"].items() <= made["spec"].items()
    assert OURS["spec"].items() <= made["spec"].items()


def test_lists_of_named_objects_merge_by_their_keys():
    made = merged(
        spec(
            containers=[
                {"name": "proxy", "image": "p:1"},
                {
                    "name": "server",
                    "env": [{"name": "LOG", "value": "debug"}, {"name": "PORT", "value": "8080"}],
                    "envFrom": [{"configMapRef": {"name": "more"}}],
                    "ports": [{"containerPort": 9090}],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                },
            ],
            volumes=[
                {"name": "cache", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {"medium": "Memory"}},
            ],
            initContainers=[{"name": "warm", "image": "w:1"}],
        )
    )
    first, second = made["containers"]
    assert [first["name"], second["name"]] == ["server", "proxy"]
    assert [e["name"] for e in first["env"]] == ["PORT", "LOG"]
    assert first["envFrom"] == [
        {"secretRef": {"name": "store"}},
        {"configMapRef": {"name": "more"}},
    ]
    assert [p["containerPort"] for p in first["ports"]] == [8080, 9090]
    assert [m["mountPath"] for m in first["volumeMounts"]] == ["/tmp", "/cache"]
    assert made["volumes"] == [
        {"name": "tmp", "emptyDir": {"medium": "Memory"}},
        {"name": "cache", "emptyDir": {}},
    ]
    assert first["command"] == OURS["spec"]["containers"][0]["command"]


def test_a_container_beside_ours_is_hardened_unless_it_says_otherwise():
    own = {"readOnlyRootFilesystem": True, "capabilities": {"add": ["NET_BIND_SERVICE"]}}
    made = merged(
        spec(
            containers=[{"name": "a"}, {"name": "b", "securityContext": own}],
            initContainers=[{"name": "c"}],
        )
    )
    contexts = [c["securityContext"] for c in (*made["containers"][1:], *made["initContainers"])]
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    more = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert contexts == [strict, {**strict, **own, "capabilities": more}, strict]


def test_what_may_be_set_otherwise_and_what_may_be_raised():
    assert merged(server(imagePullPolicy="Always"))["containers"][0]["imagePullPolicy"] == "Always"
    assert merged(spec(terminationGracePeriodSeconds=90))["terminationGracePeriodSeconds"] == 90


def test_null_is_as_if_it_were_not_there():
    assert merged({"spec": {"volumes": None, "nodeSelector": {"a": None}}}) == {
        **OURS["spec"],
        "nodeSelector": {},
    }


REFUSED: list[tuple[Obj, str]] = [
    (
        server(command=["sh"]),
        "spec.containers[server].command can't be set: the operator sets it to",
    ),
    (server(image="j"), "spec.containers[server].image can't be set: set spec.server.image"),
    (server(env=[{"name": "PORT", "value": "1"}]), "spec.containers[server].env[PORT].value can't"),
    (
        server(env=[{"name": "PORT", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
        "spec.containers[server].env[PORT].valueFrom can't be set",
    ),
    (
        server(ports=[{"containerPort": 8080, "name": "metrics"}]),
        "spec.containers[server].ports[8080].name can't be set",
    ),
    (
        server(volumeMounts=[{"name": "mine", "mountPath": "/tmp"}]),
        "spec.containers[server].volumeMounts[/tmp].name can't be set",
    ),
    (
        server(volumeMounts=[{"mountPath": "/tmp", "subPath": "x"}]),
        "spec.containers[server].volumeMounts[/tmp].subPath can't be set",
    ),
    (
        spec(volumes=[{"name": "tmp", "configMap": {"name": "x"}}]),
        "spec.volumes[tmp].configMap can't be set",
    ),
    (
        spec(automountServiceAccountToken=True),
        "spec.automountServiceAccountToken can't be set: the operator sets it to False",
    ),
    (spec(securityContext={"runAsNonRoot": False}), "spec.securityContext.runAsNonRoot takes away"),
    (spec(securityContext={"runAsUser": 0}), "spec.securityContext.runAsUser takes away"),
    (spec(securityContext={"runAsUser": 7}), "spec.securityContext.runAsUser can't be set"),
    (spec(hostNetwork=True), "spec.hostNetwork takes away"),
    (
        spec(volumes=[{"name": "node", "hostPath": {"path": "/"}}]),
        "spec.volumes[node].hostPath takes away",
    ),
    (
        spec(containers=[{"name": "x", "securityContext": {"privileged": True}}]),
        "spec.containers[x].securityContext.privileged takes away",
    ),
    (
        server(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "spec.containers[server].securityContext.capabilities.add takes away",
    ),
    (
        spec(initContainers=[{"name": "x", "ports": [{"containerPort": 1, "hostPort": 1}]}]),
        "spec.initContainers[x].ports[1].hostPort takes away",
    ),
    (
        spec(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        "spec.securityContext.seccompProfile.type takes away",
    ),
    (
        spec(containers=[{"name": "x", "securityContext": {"capabilities": {"drop": ["MKNOD"]}}}]),
        "spec.containers[x].securityContext.capabilities.drop takes away",
    ),
    (
        spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        "spec.securityContext.sysctls[kernel.msgmax] takes away",
    ),
    (
        spec(securityContext={"seLinuxOptions": {"type": "spc_t"}}),
        "spec.securityContext.seLinuxOptions.type takes away",
    ),
    (
        spec(securityContext={"windowsOptions": {"hostProcess": True}}),
        "spec.securityContext.windowsOptions.hostProcess takes away",
    ),
    (
        spec(volumes=[{"name": "share", "nfs": {"server": "s", "path": "/"}}]),
        "spec.volumes[share].nfs takes away",
    ),
    (
        server(volumeMounts=[{"name": "mine", "mountPath": "/tmp/"}]),
        "spec.containers[server].volumeMounts[/tmp].name can't be set",
    ),
    (
        spec(terminationGracePeriodSeconds=5),
        "spec.terminationGracePeriodSeconds must be 65 or more",
    ),
    (spec(containers=[{"image": "x"}]), "spec.containers[0] has no name: set it"),
    (spec(containers={"name": "x"}), "spec.containers can't be set: the operator sets it to"),
    (spec(volumes=["x"]), "spec.volumes[0] has no name: set it"),
    (server(**{"$patch": "delete"}), "spec.containers[server].$patch is unknown"),
    ({"kind": "Pod"}, "kind is unknown: a template has metadata and spec"),
    ({"metadata": {"name": "x"}}, "metadata.name can't be set: only labels and annotations can"),
    (
        {"metadata": {"labels": {"policyops.dev/version": "1"}}},
        "metadata.labels[policyops.dev/version] is the operator's own",
    ),
    (
        {"metadata": {"annotations": {"policyops.dev/applied": "1"}}},
        "metadata.annotations[policyops.dev/applied] is the operator's own",
    ),
]


@pytest.mark.parametrize(("theirs", "sentence"), REFUSED, ids=[s[:60] for _, s in REFUSED])
def test_what_contradicts_us_is_refused_with_its_path(theirs: Obj, sentence: str):
    with pytest.raises(TemplateError) as refused:
        merge(OURS, theirs, TERMS)
    assert str(refused.value).startswith(f"{PLACE}.{sentence}")


WORDS = st.sampled_from(["a", "b", "name", "value", "server", "8080", "tmp", "/tmp"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            WORDS | st.sampled_from(["containers", "volumes", "env", "ports", "spec", "metadata"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def said(ours: Any, made: Any) -> bool:
    """Whether everything that we set is still there."""
    if isinstance(ours, dict):
        return isinstance(made, dict) and all(
            k in made and said(v, made[k]) for k, v in ours.items()
        )
    if isinstance(ours, list):
        return isinstance(made, list) and all(any(said(o, m) for m in made) for o in ours)
    return bool(ours == made)


@given(st.dictionaries(st.sampled_from(["spec", "metadata"]), VALUES, max_size=2))
def test_whatever_is_said_ours_stays_or_it_is_refused(theirs: Obj):
    before = copy.deepcopy((OURS, theirs))
    terms = Terms(place=PLACE)
    try:
        made = merge(OURS, theirs, terms)
    except TemplateError:
        return
    finally:
        assert before == (OURS, theirs), "nothing is changed in place"
    assert said(OURS, made)
