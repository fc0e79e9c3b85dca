"""What an attempt is made of: names, rendezvous, storage, security, and what the pod reads."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.report import decode
from policy_api.contract.run import BaseArtifact, RunConfig
from policy_api.v1alpha1.store import SecretRef
from policy_api.v1alpha1.version import PolicyVersionSpec
from policy_operator.settings import Settings
from policy_operator.training import build
from policy_operator.training.types import Ready, RecordVersion
from training_world import done, training

SETTINGS = Settings(namespace="system", trainer_image="registry.example/trainer:1")
BASE = Ready(
    artifact=BaseArtifact(
        uri="pvc://shared/m/forge/1", path="/p", sha256="0" * 64, policy="forge", version=1
    ),
    version_name="forge-v1",
    secret="base-credentials",
)
WIDE = {
    "compute": {
        "nodes": 2,
        "gpusPerNode": 4,
        "resources": {"limits": {"memory": "8Gi"}, "requests": {"cpu": "2"}},
        "nodeSelector": {"gpu": "l4"},
    },
    "data": [
        {"name": "train", "uri": "pvc://data/reviews/train.jsonl", "sha256": "a" * 64},
        {"name": "validation", "uri": "configmap://prompts/held-out.jsonl", "maxRows": 10},
    ],
    "base": {"training": {"name": "first"}},
    "artifact": {"uri": "pvc://artifacts/models", "secretRef": {"name": "own-credentials"}},
}


def plan(index=0, base=None, number=3) -> build.Plan:
    needed = {"base": base} if base is not None else {}
    return build.Plan(index=index, min_version=number, dependencies=needed, ca="-----BEGIN")


def container_of(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def test_all_children_have_the_attempts_name_and_owner():
    made = training()
    names = set()
    for child in (
        build.job(made, plan(2), SETTINGS),
        build.service(made, plan(2)),
        build.config_map(made, plan(2), SETTINGS),
    ):
        meta = child["metadata"]
        names.add((meta["name"], meta["namespace"]))
        assert meta["ownerReferences"][0]["uid"] == "t-uid"
        assert meta["labels"]["policyops.dev/training"] == "sft"
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "policy-operator"
    assert names == {("sft-2", "ml")}


def test_the_job_is_a_gang_that_ends_with_its_first_failure():
    spec = build.job(training(**WIDE), plan(), SETTINGS)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimit"] == 0
    assert spec["podReplacementPolicy"] == "Failed"
    rules = spec["podFailurePolicy"]["rules"]
    assert [r["action"] for r in rules] == ["FailJob", "FailJob"]
    assert rules[0]["onExitCodes"]["values"] == [65, 78]
    assert rules[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_job_controller_knows_the_time_that_is_left():
    limited = replace(plan(), seconds=100)
    assert build.job(training(), limited, SETTINGS)["spec"]["activeDeadlineSeconds"] == 100
    assert "activeDeadlineSeconds" not in build.job(training(), plan(), SETTINGS)["spec"]


def test_its_label_reserves_the_number_and_its_annotation_keeps_the_base():
    meta = build.job(training(**WIDE), plan(base=BASE, number=7), SETTINGS)["metadata"]
    assert meta["labels"]["policyops.dev/version"] == "7"
    assert meta["annotations"] == {"policyops.dev/base-version": "forge-v1"}


def test_the_ranks_find_each_other():
    made = training(**WIDE)
    job, service = build.job(made, plan(1), SETTINGS), build.service(made, plan(1))
    env = {e["name"]: e.get("value") for e in container_of(job)["env"]}
    assert env["PET_NNODES"] == "2"
    (cpus,) = (e for e in container_of(job)["env"] if e["name"] == "POLICYOPS_CPU_MILLIS")
    wanted = {"containerName": "trainer", "resource": "requests.cpu", "divisor": "1m"}
    assert cpus["valueFrom"] == {"resourceFieldRef": wanted}
    assert env["PET_NPROC_PER_NODE"] == "4"
    assert env["PET_MASTER_ADDR"] == "sft-1-0.sft-1"
    assert env["PET_MASTER_PORT"] == str(service["spec"]["ports"][0]["port"])
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "sft-1"}


def test_a_single_pod_needs_no_service():
    made = training()
    env = {
        e["name"]: e.get("value") for e in container_of(build.job(made, plan(), SETTINGS))["env"]
    }
    assert env["PET_MASTER_ADDR"] == "localhost"
    assert [m["kind"] for m in build.needs(made, plan(), SETTINGS)] == ["ConfigMap"]
    wide = training(**WIDE)
    assert [m["kind"] for m in build.needs(wide, plan(), SETTINGS)] == ["ConfigMap", "Service"]


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (
            SETTINGS,
            "https://policy-operator.system.svc/v1/namespaces/ml/policytrainings/sft/status",
        ),
        (
            Settings(service_host="127.0.0.1", service_port=8443),
            "https://127.0.0.1:8443/v1/namespaces/ml/policytrainings/sft/status",
        ),
    ],
)
def test_it_reports_to_the_operator(settings, url):
    job = build.job(training(), plan(), settings)
    env = {e["name"]: e.get("value") for e in container_of(job)["env"]}
    assert env["KUBEFLOW_TRAINER_SERVER_URL"] == url
    mounts = {m["name"]: m["mountPath"] for m in container_of(job)["volumeMounts"]}
    assert env["KUBEFLOW_TRAINER_SERVER_CA_CERT"] == f"{mounts['run']}/ca.crt"
    assert env["KUBEFLOW_TRAINER_SERVER_TOKEN"] == f"{mounts['token']}/token"
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    token = volumes["token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "policyops.dev"


def test_the_pod_is_restricted():
    spec = build.job(training(), plan(), SETTINGS)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = spec["containers"][0]["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = {v["name"]: v for v in spec["volumes"]}
    assert kinds["tmp"] == {"name": "tmp", "emptyDir": {}}
    assert kinds["shm"] == {"name": "shm", "emptyDir": {"medium": "Memory"}}
    assert spec["terminationGracePeriodSeconds"] == 120


def test_storage_is_mounted_where_the_config_says_and_written_only_where_it_must():
    made = training(**WIDE)
    job = build.job(made, plan(base=BASE), SETTINGS)
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    mounted = {}
    for mount in container_of(job)["volumeMounts"]:
        volume = volumes[mount["name"]]
        source = volume.get("persistentVolumeClaim") or volume.get("configMap")
        if source and mount["name"] != "run":
            name = source.get("claimName") or source["name"]
            mounted[name] = (mount["mountPath"], mount.get("readOnly", False))
    assert mounted == {
        "artifacts": ("/var/lib/policyops/pvc/artifacts", False),
        "data": ("/var/lib/policyops/pvc/data", True),
        "shared": ("/var/lib/policyops/pvc/shared", True),
        "prompts": ("/var/lib/policyops/configmap/prompts", True),
    }
    config = build.run_config(made, plan(base=BASE), SETTINGS)
    assert config.input("train").path == "/var/lib/policyops/pvc/data/reviews/train.jsonl"
    assert config.input("validation").path == "/var/lib/policyops/configmap/prompts/held-out.jsonl"
    assert config.store.path == "/var/lib/policyops/pvc/artifacts/models"
    secrets = [e["secretRef"]["name"] for e in container_of(job)["envFrom"]]
    assert secrets == ["base-credentials", "own-credentials"]


def test_resources_are_the_users_and_gpus_are_added():
    resources = container_of(build.job(training(**WIDE), plan(), SETTINGS))["resources"]
    assert resources == {
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "4"},
        "requests": {"cpu": "2"},
    }
    pod = build.job(training(**WIDE), plan(), SETTINGS)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "l4"}
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    assert "resources" not in training().spec.compute.to_wire()


JUDGE = {
    "endpoint": {
        "url": "https://api.example.com/v1",
        "model": "large",
        "secretRef": {"name": "openai", "key": "api-key"},
    },
    "criteria": [{"name": "clear", "description": "It is easy to read."}],
}


def test_the_judges_key_comes_from_its_secret_by_a_variable_alone():
    made = training(judge=JUDGE)
    (found,) = [
        entry
        for entry in container_of(build.job(made, plan(), SETTINGS))["env"]
        if entry["name"] == "POLICYOPS_JUDGE_KEY"
    ]
    assert found["valueFrom"] == {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    assert "value" not in found
    config = build.run_config(made, plan(), SETTINGS)
    assert config.judge == made.spec.judge
    assert "openai" not in [
        entry["secretRef"]["name"]
        for entry in container_of(build.job(made, plan(), SETTINGS))["envFrom"]
    ]


@pytest.mark.parametrize(
    "judge", [None, {**JUDGE, "endpoint": {"url": "http://vllm:8000/v1", "model": "m"}}]
)
def test_a_judge_without_a_key_needs_no_variable(judge):
    env = container_of(build.job(training(judge=judge), plan(), SETTINGS))["env"]
    assert "POLICYOPS_JUDGE_KEY" not in [entry["name"] for entry in env]


def test_run_json_carries_the_whole_spec():
    made = training(
        **{
            **WIDE,
            "seed": 7,
            "tag": "mvp",
            "adapter": {"rank": 4},
            "answerSchema": {"minLength": 1},
        }
    )
    data = build.config_map(made, plan(1, BASE), SETTINGS)["data"]
    assert data["ca.crt"] == "-----BEGIN"
    config = RunConfig.model_validate(json.loads(data["run.json"]))
    assert config.base.artifact == BASE.artifact
    assert (config.attempt, config.min_version, config.trainer_image) == (
        1,
        3,
        "registry.example/trainer:1",
    )
    for name in (
        "policy",
        "seed",
        "tag",
        "recipe",
        "sft",
        "grpo",
        "adapter",
        "compute",
        "checkpoints",
        "answer_schema",
    ):
        assert getattr(config, name) == getattr(made.spec, name), name
    assert config.exit_criteria == tuple(made.spec.exit_criteria)


def test_a_version_outlives_its_training():
    made = training(**WIDE, tag="mvp")
    found = decode(done(4))
    record = RecordVersion(found, (), tuple(found.metrics), parent_version=2)
    version = build.policy_version(made, record, None)
    assert "ownerReferences" not in version["metadata"]
    assert version["metadata"]["name"] == "forge-v4"
    spec = PolicyVersionSpec.model_validate(version["spec"])
    assert (spec.policy, spec.version, spec.parent_version, spec.tag) == ("forge", 4, 2, "mvp")
    assert spec.artifact.secret_ref == SecretRef(name="own-credentials")
    assert spec.training.uid == "t-uid"


@given(st.integers(0, 999), st.integers(1, 512), st.integers(0, 16), st.integers(1, 64))
def test_names_fit_and_every_process_is_counted(index, nodes, gpus, processes):
    compute = {"nodes": nodes, "gpusPerNode": gpus, "processesPerNode": processes}
    job = build.job(training(compute=compute), plan(index), SETTINGS)
    env = {e["name"]: e.get("value") for e in container_of(job)["env"]}
    assert env["PET_NPROC_PER_NODE"] == str(processes)
    assert len(f"{job['metadata']['name']}-{nodes}") <= 63
    assert json.loads(json.dumps(job)) == job
