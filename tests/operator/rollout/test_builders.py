"""The manifests of a version's server, of the route, and of the rules."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import binaries
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_api.base import ObjectMeta
from policy_api.rules.pod_template import TemplateError
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_api.v1alpha1.version import TrainingOrigin, VersionArtifact
from policy_operator.children import stamp_of
from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import routes, rules, servers
from policy_operator.rollout.types import Backend, PolicyDeployment, RollbackRecord
from rollout_world import spec

BUILT = binaries.path("promtool")
PROMTOOL = str(BUILT) if BUILT.exists() else shutil.which("promtool")


def make(**update: Any) -> PolicyDeployment:
    return PolicyDeployment(
        ObjectMeta(name="review-forge", namespace="ml", uid="u1", generation=1),
        PolicyDeploymentSpec.model_validate(spec(**update)),
        PolicyDeploymentStatus(),
    )


def record(uri: str = "pvc://models/artifacts/review-forge/2", **artifact: Any) -> VersionRecord:
    return VersionRecord(
        version=2,
        artifact=VersionArtifact.model_validate({"uri": uri, "sha256": "b" * 64, **artifact}),
        training=TrainingOrigin(name="t", uid="u"),
    )


def container(manifests: tuple[Obj, ...]) -> Obj:
    found: Obj = manifests[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_server_gets_what_it_needs_and_no_more():
    deployment, service = servers.build(make(), record(), "policyops/server:dev")
    pod = deployment["spec"]["template"]["spec"]
    server = container((deployment,))
    env = {e["name"]: e["value"] for e in server["env"]}
    assert env["POLICY_ARTIFACT_PATH"] == "/var/lib/policyops/pvc/models/artifacts/review-forge/2"
    assert env["POLICY_ARTIFACT_SHA256"] == "b" * 64
    assert (env["POLICY_NAME"], env["POLICY_VERSION"], env["PORT"]) == ("review-forge", "2", "8080")
    assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert server["volumeMounts"][1]["readOnly"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == "u1"


def test_a_pod_outlives_its_last_request():
    deployment, _ = servers.build(make(), record(), "i")
    pause = container((deployment,))["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = routes.build(make(), ())["spec"]["rules"][0]["timeouts"]["request"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace == pause + int(longest.removesuffix("s"))
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_credentials_image_and_resources():
    manifests = servers.build(
        make(server={"image": "mine:1", "resources": {"limits": {"memory": "1Gi"}}}),
        record("s3://bucket/x", secretRef={"name": "store"}),
        "i",
    )
    server = container(manifests)
    assert server["image"] == "mine:1"
    assert server["resources"] == {"limits": {"memory": "1Gi"}}
    assert server["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert [v["name"] for v in manifests[0]["spec"]["template"]["spec"]["volumes"]] == [
        "tmp",
        "serving",
    ]


def test_tokens_of_callers_are_a_file_of_the_pod_and_never_its_environment():
    auth = {"type": "Token", "token": {"secretRef": {"name": "shop", "key": "tokens.txt"}}}
    manifests = servers.build(make(server={"auth": auth}), record(), "i")
    pod, server = manifests[0]["spec"]["template"]["spec"], container(manifests)
    assert pod["volumes"][-1] == {
        "name": "callers",
        "secret": {
            "secretName": "shop",
            "items": [{"key": "tokens.txt", "path": "tokens.txt"}],
            "defaultMode": 0o440,
            "optional": True,
        },
    }
    folder = "/var/run/secrets/policyops-callers/shop"
    assert server["volumeMounts"][-1] == {"name": "callers", "mountPath": folder, "readOnly": True}
    assert server["env"][-1] == {"name": "AUTH_TOKEN_FILE", "value": f"{folder}/tokens.txt"}
    assert "envFrom" not in server


def test_a_decision_log_is_files_and_a_spool_that_outlives_the_container():
    log = {"secretRef": {"name": "db"}, "retentionDays": 30, "redact": ["/prompt"]}
    manifests = servers.build(make(server={"decisionLog": log}), record(), "i")
    pod, server = manifests[0]["spec"]["template"]["spec"], container(manifests)
    secret, spool = pod["volumes"][-2:]
    assert secret["secret"] == {
        "secretName": "db",
        "items": [{"key": key, "path": key} for key in ("url", "redaction-key")],
        "defaultMode": 0o440,
        "optional": True,
    }
    assert spool["emptyDir"] == {"sizeLimit": "512Mi"}
    folder = "/var/run/secrets/policyops-decision-log/db"
    assert server["volumeMounts"][-2:] == [
        {"name": "decision-log", "mountPath": folder, "readOnly": True},
        {"name": "decision-log-spool", "mountPath": "/var/spool/policyops"},
    ]
    told = {item["name"]: item["value"] for item in server["env"][-7:]}
    assert told == {
        "DECISION_LOG_URL_FILE": f"{folder}/url",
        "DECISION_LOG_SPOOL": "/var/spool/policyops",
        "POLICY_NAMESPACE": "ml",
        "POLICY_DEPLOYMENT": make().meta.name,
        "DECISION_LOG_RETENTION_DAYS": "30",
        "DECISION_LOG_REDACT": '["/prompt"]',
        "DECISION_LOG_REDACTION_KEY_FILE": f"{folder}/redaction-key",
    }


@pytest.mark.parametrize("server", [{}, {"auth": {"type": "None"}}])
def test_without_tokens_the_pod_is_as_it_was(server: dict[str, Any]):
    said, unsaid = (
        servers.build(make(server=s), record(), "i")[0]["spec"]["template"] for s in (server, {})
    )
    assert said == unsaid


TEMPLATE: dict[str, Any] = {
    "metadata": {"annotations": {"prometheus.io/scrape": "false", "team": "ml"}},
    "spec": {
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "securityContext": {"runAsUser": 1000},
        "containers": [
            {"name": "logger", "image": "logger:1"},
            {
                "name": "server",
                "env": [{"name": "LOG_LEVEL", "value": "debug"}],
                "startupProbe": {"failureThreshold": 7200},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            },
        ],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    },
}


def test_a_template_adds_to_the_pods():
    plain, mine = (
        servers.build(make(server=s), record(), "i")[0]["spec"]["template"]
        for s in ({}, {"template": TEMPLATE})
    )
    assert mine["metadata"]["labels"] == plain["metadata"]["labels"]
    assert mine["metadata"]["annotations"] == {
        **plain["metadata"]["annotations"],
        "prometheus.io/scrape": "false",
        "team": "ml",
    }
    pod = mine["spec"]
    assert pod["tolerations"] == TEMPLATE["spec"]["tolerations"]
    assert pod["securityContext"] == {**plain["spec"]["securityContext"], "runAsUser": 1000}
    first, second = pod["containers"]
    assert (first["name"], second["name"]) == ("server", "logger")
    assert first["env"][-1] == {"name": "LOG_LEVEL", "value": "debug"}
    assert first["startupProbe"]["failureThreshold"] == 7200
    assert first["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert second["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize(
    ("spec_", "sentence"),
    [
        (
            {"containers": [{"name": "server", "image": "x"}]},
            "image can't be set: set spec.server.",
        ),
        (
            {"containers": [{"name": "server", "resources": {}}]},
            "resources can't be set: set spec.",
        ),
        (
            {"containers": [{"name": "x", "ports": [{"containerPort": 8080}]}]},
            "ports[8080] can't be set: the server listens on that port",
        ),
        (
            {"containers": [{"name": "server", "readinessProbe": {"httpGet": {"path": "/"}}}]},
            "readinessProbe.httpGet.path can't be set: the operator sets it to /readyz",
        ),
    ],
)
def test_a_template_that_contradicts_is_refused(spec_: dict[str, Any], sentence: str):
    with pytest.raises(TemplateError) as refused:
        servers.build(make(server={"template": {"spec": spec_}}), record(), "i")
    name = spec_["containers"][0]["name"]
    path = f"spec.server.template.spec.containers[{name}]."
    assert str(refused.value).startswith(path + sentence)


def test_the_checksum_is_of_the_content():
    first, second = (servers.build(make(), record(), image) for image in ("a", "b"))
    assert stamp_of(first[0]) == stamp_of(first[1])
    assert stamp_of(first[0]) != stamp_of(second[0])
    assert servers.build(make(), record(), "a") == first


def test_the_route_carries_weights_roles_and_its_parents():
    pdep = make(
        traffic={
            "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "http"}],
            "hostnames": ["a.example.com"],
            "path": "/retain",
        }
    )
    split = (Backend(1, 90, "stable"), Backend(2, 10, "candidate"))
    route = routes.build(pdep, split)
    assert route["spec"]["parentRefs"] == [
        {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": "gateways",
            "name": "public",
            "sectionName": "http",
        }
    ]
    assert route["spec"]["hostnames"] == ["a.example.com"]
    for rule in route["spec"]["rules"]:
        assert [(r["name"], r["weight"]) for r in rule["backendRefs"]] == [
            ("review-forge-v1", 90),
            ("review-forge-v2", 10),
        ]
    assert routes.split_of("review-forge", route) == split


PUBLISHED = ["/v1/decisions", "/v1/scores", "/v1/feedback", "/v1/chat/completions"]


def matched(rule: Obj) -> list[str]:
    """Return the prefixes that a rule matches."""
    assert all(m["path"]["type"] == "PathPrefix" for m in rule["matches"])
    return [match["path"]["value"] for match in rule["matches"]]


def test_the_route_publishes_what_callers_need_and_no_more():
    (rule,) = routes.build(make(), (Backend(1, 100, "stable"),))["spec"]["rules"]
    assert matched(rule) == PUBLISHED
    assert "filters" not in rule


@pytest.mark.parametrize("path", ["/retain", "/retain/"])
def test_below_a_prefix_each_path_loses_it(path: str):
    traffic = {"parentRefs": [{"name": "public"}], "path": path}
    rules_made = routes.build(make(traffic=traffic), (Backend(1, 100, "stable"),))["spec"]["rules"]
    assert [matched(rule) for rule in rules_made] == [[f"/retain{p}"] for p in PUBLISHED]
    assert [rule["filters"] for rule in rules_made] == [
        [
            {
                "type": "URLRewrite",
                "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": p}},
            }
        ]
        for p in PUBLISHED
    ]


OWN_PATHS = {"routes": [{"path": "/retain", "to": "/v1/decisions"}]}


def test_paths_of_ones_own_are_published_as_they_are():
    backends = (Backend(1, 90, "stable"), Backend(2, 10, "candidate"))
    ours, own = routes.build(make(server=OWN_PATHS), backends)["spec"]["rules"]
    assert matched(ours) == PUBLISHED
    assert own["matches"] == [{"path": {"type": "Exact", "value": "/retain"}}]
    assert own["backendRefs"] == ours["backendRefs"]
    traffic = {"parentRefs": [{"name": "public"}], "path": "/crm/"}
    route = routes.build(make(server=OWN_PATHS, traffic=traffic), backends)
    *_, last = route["spec"]["rules"]
    assert last["matches"] == [{"path": {"type": "Exact", "value": "/crm/retain"}}]
    assert last["filters"] == [
        {
            "type": "URLRewrite",
            "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/retain"}},
        }
    ]
    assert routes.split_of("review-forge", route) == backends


def test_a_path_of_ones_own_changes_no_pod():
    assert servers.build(make(server=OWN_PATHS), record(), "i") == servers.build(
        make(), record(), "i"
    )


def test_rules_that_somebody_made_differ_are_no_split_of_ours():
    traffic = {"parentRefs": [{"name": "public"}], "path": "/retain"}
    split = (Backend(1, 90, "stable"), Backend(2, 10, "candidate"))
    route = routes.build(make(traffic=traffic), split)
    assert routes.split_of("review-forge", route) == split
    route["spec"]["rules"][-1]["backendRefs"][1]["weight"] = 20
    assert routes.split_of("review-forge", route) == (*split, Backend(2, 20, "candidate"))


def test_backends_of_other_names_are_not_ours():
    route = routes.build(make(), (Backend(1, 100, "stable"),))
    route["spec"]["rules"][0]["backendRefs"] += [
        {"name": "review-forge", "weight": 1},
        {"name": "review-forge-vx", "weight": 1},
        {"name": "other-v1", "weight": 1},
    ]
    assert routes.split_of("review-forge", route) == (Backend(1, 100, "stable"),)


RECORDS = st.builds(
    RollbackRecord,
    version=st.integers(1, 10**6),
    since=st.integers(0, 2**32).map(lambda s: datetime.fromtimestamp(s, UTC)),
    alert=st.text(max_size=20),
    message=st.text(max_size=100),
    at=st.just(datetime(2026, 1, 1, tzinfo=UTC)),
)


@given(RECORDS)
def test_the_reason_of_a_rollback_survives_in_the_route(record: RollbackRecord):
    assert routes.decode(routes.encode(record)) == record


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "x", '{"version": "a"}', "3"])
def test_an_annotation_of_somebody_else_is_no_rollback(text: str | None):
    assert routes.decode(text) is None


ERROR_RATE = {"name": "HighErrorRate", "preset": "ErrorRate", "max": 0.05, "windowSeconds": 10}
LATENCY = {"name": "Slow", "preset": "Latency", "max": 0.5, "minRequests": 3, "forSeconds": 30}
OWN = {"name": "Complaints", "expr": 'sum by (version) (rate(complaints_total{a="b"}[1m])) > 1'}


def test_presets_name_the_version_and_ask_for_enough_requests():
    (group, _) = rules.group(make(alerts=[ERROR_RATE, LATENCY, OWN]))
    errors, latency, own = group["rules"]
    pods = 'namespace="ml",policy="review-forge",pod=~"review-forge-v[0-9]+-[a-z0-9]+-[a-z0-9]+"'
    assert errors["expr"] == (
        f"sum by (version) (rate(policyops_decision_errors_total{{{pods}}}[10s]))"
        f" / sum by (version) (rate(policyops_decisions_total{{{pods}}}[10s])) > 0.05"
        f" and sum by (version) (increase(policyops_decisions_total{{{pods}}}[10s])) >= 10"
    )
    assert "histogram_quantile(0.95, sum by (version, le)" in latency["expr"]
    assert latency["expr"].endswith(">= 3")
    assert latency["for"] == "30s"
    assert own["expr"] == OWN["expr"]
    assert errors["labels"] == {
        "policyops_namespace": "ml",
        "policyops_deployment": "review-forge",
        "policyops_alert": "HighErrorRate",
        "severity": "critical",
    }


def test_the_groups_checksum_changes_with_any_rule():
    sums = {
        rules.group(make(alerts=alerts))[1]
        for alerts in ([ERROR_RATE], [LATENCY], [ERROR_RATE, LATENCY], [{**ERROR_RATE, "max": 0.1}])
    }
    assert len(sums) == 4


def test_rules_are_the_same_in_either_object():
    pdep = make(alerts=[ERROR_RATE, LATENCY])
    rule = rules.build(pdep, "PrometheusRule")
    config_map = rules.build(pdep, "ConfigMap")
    assert config_map["metadata"]["name"] == "review-forge-rules"
    assert config_map["metadata"]["labels"]["policyops.dev/prometheus-rules"] == "true"
    text = config_map["data"]["ml-review-forge.yaml"]
    assert yaml.safe_load(text) == {"groups": rule["spec"]["groups"]}


@pytest.fixture
def promtool(tmp_path: Path) -> Callable[..., str]:
    """Run promtool on files that are written first."""
    if PROMTOOL is None:
        pytest.skip("no promtool: `make tools` builds it")
    tool = PROMTOOL

    def run(*arguments: str, **contents: str) -> str:
        for name, text in contents.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        done = subprocess.run(
            [tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@settings(max_examples=10)
@given(limit=st.floats(0, 1), window=st.integers(5, 86400), least=st.integers(1, 10**6))
def test_promtool_takes_any_preset(limit: float, window: int, least: int):
    if PROMTOOL is None:
        pytest.skip("no promtool: `make tools` builds it")
    extra = {"max": limit, "windowSeconds": window, "minRequests": least}
    alerts = [{**ERROR_RATE, **extra}, {**LATENCY, **extra}]
    text = rules.build(make(alerts=alerts), "ConfigMap")["data"]["ml-review-forge.yaml"]
    command = [PROMTOOL, "check", "rules", "/dev/stdin"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert "2 rules found" in done.stdout, done.stdout + done.stderr


def series(name: str, values: str, version: int, **labels: str) -> dict[str, str]:
    full = {
        "namespace": "ml",
        "policy": "review-forge",
        "pod": f"review-forge-v{version}-5d9f-x7k2p",
        "version": str(version),
        "role": "candidate",
        **labels,
    }
    inner = ",".join(f'{k}="{v}"' for k, v in full.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def test_alerts_fire_for_the_version_that_is_bad(promtool: Callable[..., str]):
    alerts = [{**ERROR_RATE, "windowSeconds": 60}, {**LATENCY, "forSeconds": 0}]
    config = rules.build(make(alerts=alerts), "ConfigMap")["data"]["ml-review-forge.yaml"]
    total, errors = "policyops_decisions_total", "policyops_decision_errors_total"
    bucket = "policyops_decision_seconds_bucket"
    data = [
        series(total, "0+10x30", 1),
        series(errors, "0x30", 1, reason="schema"),
        series(total, "0+1x30", 2),
        series(errors, "0+0.5x30", 2, reason="schema"),
        # too few requests to judge
        series(total, "0+0.1x30", 3),
        series(errors, "0+0.1x30", 3, reason="schema"),
        # another deployment of the same policy
        series(total, "0+10x30", 4, pod="review-forge-two-v4-5d9f-x7k2p"),
        series(errors, "0+10x30", 4, reason="schema", pod="review-forge-two-v4-5d9f-x7k2p"),
    ]
    for version, fast in ((1, "0+10x30"), (2, "0+0.1x30")):
        slow = "0+10x30" if version == 1 else "0+1x30"
        data += [
            series(bucket, fast, version, le="0.5"),
            series(bucket, slow, version, le="1"),
            series(bucket, slow, version, le="+Inf"),
        ]
    (group, checksum) = rules.group(make(alerts=alerts))

    def fires(index: int, version: int, description: str) -> dict[str, Any]:
        rule = group["rules"][index]
        return {
            "exp_labels": {**rule["labels"], "version": str(version)},
            "exp_annotations": {
                **rule["annotations"],
                "description": description,
                "policyops_rules": checksum,
            },
        }

    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5s",
        "tests": [
            {
                "interval": "5s",
                "input_series": data,
                "alert_rule_test": [
                    {
                        "eval_time": "2m",
                        "alertname": "HighErrorRate",
                        "exp_alerts": [
                            fires(
                                0,
                                2,
                                "50% of the decisions of review-forge v2 failed over 60 s; "
                                "at most 5% of them may",
                            )
                        ],
                    },
                    {
                        "eval_time": "2m",
                        "alertname": "Slow",
                        "exp_alerts": [
                            fires(
                                1,
                                2,
                                "the 95th percentile of the latency of review-forge v2 was "
                                "972.2ms over 60 s; at most 0.5 s is allowed",
                            )
                        ],
                    },
                ],
            }
        ],
    }
    promtool("test", "rules", "tests.yaml", rules=config, tests=yaml.safe_dump(test))


def test_new_weights_are_told_to_servers_too():
    pdep = make()
    before = routes.build(pdep, (Backend(1, 90, "stable"), Backend(2, 10, "candidate")))
    split = (Backend(1, 100, "stable"), Backend(2, 0, "candidate"))
    after = routes.reweigh(pdep, before["spec"], split)
    assert after["spec"] == routes.build(pdep, split)["spec"]
    told = [
        {h["name"]: h["value"] for h in ref["filters"][0]["requestHeaderModifier"]["set"]}
        for ref in after["spec"]["rules"][0]["backendRefs"]
    ]
    assert [header["x-policyops-weight"] for header in told] == ["100", "0"]
