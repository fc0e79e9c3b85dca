"""An engine that is not ours: the example with vLLM as recorded, and what alerts read of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import binaries
import pytest
import yaml
from policy_api.base import ObjectMeta
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import observe, rules, servers
from policy_operator.rollout.types import PolicyDeployment
from rollout_world import NAME, World

GOLDEN = Path(__file__).parent / "golden" / "vllm.yaml"
EXAMPLE = Path(__file__).parents[3] / "examples" / "review-forge" / "vllm" / "deployment.yaml"


def example() -> PolicyDeployment:
    found = yaml.safe_load(EXAMPLE.read_text())
    meta = ObjectMeta(name=NAME, namespace="ml", uid="u1")
    spec = PolicyDeploymentSpec.model_validate(found["spec"])
    return PolicyDeployment(meta, spec, PolicyDeploymentStatus())


def record(uri: str, **artifact: Any) -> VersionRecord:
    world = World()
    obj = world.obj("PolicyVersion", "review-forge-v1")
    told = {"uri": uri, "sha256": "a" * 64, **artifact}
    return VersionRecord.parse({**obj, "spec": {**obj["spec"], "artifact": told}})


def pod(uri: str, **artifact: Any) -> dict[str, Any]:
    made = servers.build(example(), record(uri, **artifact), "policyops/server:1")
    found: dict[str, Any] = made[0]["spec"]["template"]
    return found


def test_the_example_with_vllm_is_as_recorded():
    made = pod("s3://models/review-forge/1", secretRef={"name": "store"})
    assert made == yaml.safe_load(GOLDEN.read_text())


def test_an_artifact_on_a_volume_is_checked_where_it_is():
    spec = pod("pvc://models/review-forge/1")["spec"]
    (before,), (server,) = spec["initContainers"], spec["containers"]
    path = "/var/lib/policyops/pvc/models/review-forge/1"
    for container in (before, server):
        assert {"name": "POLICY_ARTIFACT_PATH", "value": path} in container["env"]
        mounts = {m["mountPath"]: m.get("readOnly") for m in container["volumeMounts"]}
        assert mounts["/var/lib/policyops/pvc/models"] is True


def test_the_keys_of_the_store_are_not_the_engines():
    spec = pod("s3://models/review-forge/1", secretRef={"name": "store"})["spec"]
    (before,), (server,) = spec["initContainers"], spec["containers"]
    assert before["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert "store" not in json.dumps(server)
    assert before["command"] == ["python", "-m", "policy_server.fetch"]
    assert before["image"] == "policyops/server:1"


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        ({"command": ["sh"]}, "set spec.server.custom.command"),
        ({"args": ["x"]}, "set spec.server.custom.args"),
        ({"ports": [{"containerPort": 8000, "name": "web"}]}, "the operator sets it to http"),
    ],
)
def test_what_has_a_field_of_its_own_is_not_in_the_template(
    container: dict[str, Any], sentence: str
):
    world = World()
    custom = {"metrics": {"decisions": "a", "errors": "b"}}
    template = {"spec": {"containers": [{"name": "server", **container}]}}
    engine = {"engine": "Custom", "image": "e:1", "custom": custom}
    world.edit(server={**engine, "template": template})
    world.run_some()
    assert sentence in world.condition("Progressing")["message"]
    writable = {"name": "server", "securityContext": {"readOnlyRootFilesystem": False}}
    world.edit(server={**engine, "template": {"spec": {"containers": [writable]}}})
    world.serve(1)


def test_what_the_container_before_it_says_is_told():
    refused = {"terminated": {"exitCode": 65, "message": "model.safetensors was changed"}}
    status = {
        "initContainerStatuses": [{"name": "artifact", "ready": False, "lastState": refused}],
        "containerStatuses": [{"name": "server", "ready": False}],
    }
    said = observe.trouble([{"status": status}], None)
    assert said == "the artifact ended: model.safetensors was changed"


def test_it_is_scraped_where_it_says():
    world = World(apis={"podmonitors"})
    custom = {"metricsPath": "/stats", "metrics": {"decisions": "a", "errors": "b"}}
    world.edit(server={"engine": "Custom", "image": "e:1", "custom": custom})
    world.serve(1)
    (endpoint,) = world.obj("PodMonitor", NAME)["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": "/stats"}


def test_alerts_read_its_own_series_and_name_the_version_by_the_pod():
    (group, _) = rules.group(example())
    errors, latency = (rule["expr"] for rule in group["rules"])
    pods = 'namespace="ml",pod=~"review-forge-v[0-9]+-[a-z0-9]+-[a-z0-9]+"'
    version = '"version", "$1", "pod", "review-forge-v([0-9]+)-.*"'
    handler = 'handler="/v1/chat/completions"'
    assert errors == (
        f'sum by (version) (label_replace(rate(http_requests_total{{{handler},status="5xx",'
        f"{pods}}}[300s]), {version})) / sum by (version) (label_replace(rate("
        f"http_requests_total{{{handler},{pods}}}[300s]), {version})) > 0.02 and sum by (version) "
        f"(label_replace(increase(http_requests_total{{{handler},{pods}}}[300s]), {version})) >= 10"
    )
    assert f"vllm:e2e_request_latency_seconds_bucket{{{pods}}}[300s]" in latency


def test_prometheus_evaluates_them(tmp_path: Path):
    tool = binaries.path("promtool")
    if not tool.exists():
        pytest.skip("no promtool: `make tools` builds it")
    pdep = example()
    config = rules.build(pdep, "ConfigMap")["data"]["ml-review-forge.yaml"]
    (group, _) = rules.group(pdep)
    rule = group["rules"][0]

    def series(version: int, status: str, values: str) -> dict[str, str]:
        labels = (
            f'namespace="ml",pod="review-forge-v{version}-5d9f-x7k2p",'
            f'handler="/v1/chat/completions",status="{status}"'
        )
        return {"series": f"http_requests_total{{{labels}}}", "values": values}

    data = [
        series(1, "2xx", "0+10x60"),
        series(1, "5xx", "0x60"),
        series(2, "2xx", "0+9x60"),
        series(2, "5xx", "0+1x60"),
    ]
    fires = {
        "exp_labels": {**rule["labels"], "version": "2"},
        "exp_annotations": {
            **rule["annotations"],
            "description": (
                "10% of the decisions of review-forge v2 failed over 300 s; at most 2% of them may"
            ),
        },
    }
    asks = {"eval_time": "9m", "alertname": "HighErrorRate", "exp_alerts": [fires]}
    test = {"interval": "10s", "input_series": data, "alert_rule_test": [asks]}
    body = {"rule_files": ["rules.yaml"], "evaluation_interval": "10s", "tests": [test]}
    (tmp_path / "rules.yaml").write_text(config)
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(body))
    command = [str(tool), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
