"""Manifests of one attempt: its Job, headless Service and ConfigMap; and of a version. Pure."""

import json
from dataclasses import dataclass

from policy_api.contract.checkpoints import CheckpointRules
from policy_api.contract.environment import (
    CA_FILE,
    CPU_VARIABLE,
    JUDGE_KEY_VARIABLE,
    RULES_FILE,
    RUN_DIR,
    RUN_FILE,
    STATUS_CA_VARIABLE,
    STATUS_TOKEN_VARIABLE,
    STATUS_URL_VARIABLE,
    TERMINATION_LOG,
    TOKEN_DIR,
    TOKEN_FILE,
)
from policy_api.contract.run import RunConfig, RunTraining
from policy_api.contract.uris import local_path
from policy_api.keys import (
    ANNOTATION_BASE,
    ANNOTATION_REFERENCES,
    EXIT_CONFIG_INVALID,
    EXIT_DATA_INVALID,
    FIELD_MANAGER,
    GROUP_VERSION,
    KIND_TRAINING,
    LABEL_ATTEMPT,
    LABEL_MANAGED_BY,
    LABEL_POLICY,
    LABEL_TRAINING,
    LABEL_VERSION,
)
from policy_api.rules.needs import BASE
from policy_api.rules.resolve import resolve
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.resources import NVIDIA_GPU
from policy_api.v1alpha1.store import SecretRef
from policy_api.v1alpha1.version import (
    PolicyVersionSpec,
    TrainingOrigin,
    VersionArtifact,
    version_name,
)

from policy_operator import children
from policy_operator.machinery.cache import Obj
from policy_operator.settings import Settings
from policy_operator.training import retention, storage
from policy_operator.training.budget import spent_before
from policy_operator.training.pods import CONTAINER
from policy_operator.training.types import GRACE_SECONDS, Dependencies, RecordVersion, Training

_USER = 65532  # "nonroot" of distroless images
# What every pod of the trainer image has, whatever it runs.
_POD: Obj = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
_CONTAINER: Obj = {
    "imagePullPolicy": "IfNotPresent",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
_RENDEZVOUS_PORT = 29500
# A LimitRange's default is known only when the pod is made.
_CPU_MILLIS = {"containerName": CONTAINER, "resource": "requests.cpu", "divisor": "1m"}
_HTTPS = 443


@dataclass(frozen=True)
class Plan:
    """What an attempt is made of, besides the training itself."""

    index: int
    min_version: int
    dependencies: Dependencies
    ca: str
    rules: CheckpointRules | None = None
    """What the trainer is told about keeping checkpoints."""
    seconds: int | None = None
    """Of the training's time, what is left to this attempt."""
    run_seconds: int | None = None
    """Of the time that the budget pays for, what is left to this attempt's pods."""
    image: str | None = None
    """The trainer image that an earlier attempt ran."""


def job_name(training: Training, index: int) -> str:
    """Return the name of an attempt's Job, Service and ConfigMap."""
    return f"{training.meta.name}-{index}"


def _labels(training: Training, index: int) -> dict[str, str]:
    return children.managed(
        {
            LABEL_POLICY: training.spec.policy,
            LABEL_TRAINING: training.meta.name,
            LABEL_ATTEMPT: str(index),
        }
    )


def _metadata(training: Training, index: int) -> Obj:
    name = job_name(training, index)
    return children.metadata(KIND_TRAINING, training.meta, name, _labels(training, index))


def trainer_image(training: Training, plan: Plan, settings: Settings) -> str:
    """Return the image that trains: one from the first attempt to the last.

    The operator's own default changes with its upgrades, and a checkpoint goes on in the image that
    wrote it.
    """
    return plan.image or training.spec.trainer.image or settings.trainer_image


def run_config(training: Training, plan: Plan, settings: Settings) -> RunConfig:
    """Return run.json: the spec with everything that the cluster had to resolve."""
    meta = training.meta
    return resolve(
        training.spec,
        RunTraining(namespace=meta.namespace, name=meta.name, uid=meta.uid),
        attempt=plan.index,
        spent_seconds=spent_before(training.status, plan.index),
        min_version=plan.min_version,
        base=plan.dependencies[BASE].artifact if BASE in plan.dependencies else None,
        references={
            role: found.artifact for role, found in plan.dependencies.items() if role != BASE
        },
        path_of=local_path,
        trainer_image=trainer_image(training, plan, settings),
    )


def config_map(training: Training, plan: Plan, settings: Settings) -> Obj:
    """Return the attempt's ConfigMap: the run's config and the CA of our HTTPS server."""
    config = run_config(training, plan, settings).to_wire()
    told = {} if plan.rules is None else {RULES_FILE: json.dumps(plan.rules.to_wire())}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(training, plan.index),
        "data": {RUN_FILE: json.dumps(config, indent=2), CA_FILE: plan.ca, **told},
    }


def service(training: Training, plan: Plan) -> Obj:
    """Return the headless Service through which the ranks find rank 0 before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(training, plan.index),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {
                "batch.kubernetes.io/job-name": job_name(training, plan.index),
            },
            "ports": [{"name": "rendezvous", "port": _RENDEZVOUS_PORT}],
        },
    }


def needs(training: Training, plan: Plan, settings: Settings) -> list[Obj]:
    """Return what the attempt's Job needs beside it."""
    made = [config_map(training, plan, settings)]
    return [*made, service(training, plan)] if training.spec.compute.nodes > 1 else made


def status_url(training: Training, settings: Settings) -> str:
    """Return where the trainer reports its progress."""
    port = "" if settings.service_port == _HTTPS else f":{settings.service_port}"
    meta = training.meta
    return (
        f"https://{settings.host}{port}"
        f"/v1/namespaces/{meta.namespace}/policytrainings/{meta.name}/status"
    )


def _env(training: Training, plan: Plan, settings: Settings) -> list[Obj]:
    name = job_name(training, plan.index)
    compute = training.spec.compute
    processes = compute.processes_per_node or compute.gpus_per_node or 1
    rank = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    plain = {
        "PET_NNODES": str(compute.nodes),
        "PET_NPROC_PER_NODE": str(processes),
        # One pod needs no name to find itself, and so no Service.
        "PET_MASTER_ADDR": f"{name}-0.{name}" if compute.nodes > 1 else "localhost",
        "PET_MASTER_PORT": str(_RENDEZVOUS_PORT),
        STATUS_URL_VARIABLE: status_url(training, settings),
        STATUS_CA_VARIABLE: f"{RUN_DIR}/{CA_FILE}",
        STATUS_TOKEN_VARIABLE: f"{TOKEN_DIR}/{TOKEN_FILE}",
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of the pod
    }
    return [
        {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": rank}}},
        {"name": CPU_VARIABLE, "valueFrom": {"resourceFieldRef": _CPU_MILLIS}},
        *({"name": k, "value": v} for k, v in plain.items()),
        *_judge_key(training),
    ]


def _judge_key(training: Training) -> list[Obj]:
    """Return the variable with the judge's API key, which run.json must not have."""
    judge = training.spec.judge
    if judge is None or judge.endpoint is None or judge.endpoint.secret_ref is None:
        return []
    key = {"secretKeyRef": judge.endpoint.secret_ref.to_wire()}
    return [{"name": JUDGE_KEY_VARIABLE, "valueFrom": key}]


def resources(training: Training) -> Obj:
    """Return the trainer container's requests and limits."""
    compute = training.spec.compute
    asked: Obj = dict(compute.resources or {})
    if compute.gpus_per_node:
        limits = dict(asked.get("limits") or {})
        limits[NVIDIA_GPU] = str(compute.gpus_per_node)
        asked["limits"] = limits
    return asked


def _pod(training: Training, plan: Plan, settings: Settings) -> Obj:
    name = job_name(training, plan.index)
    volumes, mounts = storage.volumes(training, plan.dependencies, run=name)
    secrets = storage.secrets(training, plan.dependencies)
    container: Obj = {
        **_CONTAINER,
        "name": CONTAINER,
        "image": trainer_image(training, plan, settings),
        "command": ["python", "-m", "policy_trainer.supervisor"],
        "env": _env(training, plan, settings),
        "envFrom": [{"secretRef": {"name": s}} for s in secrets],
        "resources": resources(training),
        "volumeMounts": mounts,
        "terminationMessagePath": TERMINATION_LOG,
        # A crash before the report is written leaves the end of the log instead.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec: Obj = {
        **_POD,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": volumes,
    }
    if plan.run_seconds is not None:
        # Unlike the Job's, a pod's deadline does not count the wait for a node.
        spec["activeDeadlineSeconds"] = plan.run_seconds
    compute = training.spec.compute
    if compute.node_selector:
        spec["nodeSelector"] = dict(compute.node_selector)
    if compute.nodes > 1:
        spec["subdomain"] = name
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"batch.kubernetes.io/job-name": name}},
            }
        ]
    return {"metadata": {"labels": _labels(training, plan.index)}, "spec": spec}


def pod_failure_policy() -> Obj:
    """Return the Job's rules: the first pod that fails ends the Job at once, whatever its reason.

    The ranks train together, so a single pod that is replaced could not join the others. The rules
    only make the Job say why: bad input, or a disruption that must not count as a failure; both
    are read by `outcome.failed`, which decides whether a new attempt follows.

    There is no rule for the exit code of a preemption: it would also fail a Job that is suspended,
    whose pods end so when they are told to stop, and a failed Job can't be resumed.
    """
    codes = [EXIT_DATA_INVALID, EXIT_CONFIG_INVALID]
    return {
        "rules": [
            {
                "action": "FailJob",
                "onExitCodes": {
                    "containerName": CONTAINER,
                    "operator": "In",
                    "values": sorted(codes),
                },
            },
            {
                "action": "FailJob",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
        ]
    }


def _decided(dependencies: Dependencies) -> dict[str, str]:
    """Return the annotations by which later attempts take the same versions."""
    made = {}
    if BASE in dependencies:
        made[ANNOTATION_BASE] = dependencies[BASE].version_name
    others = [f"{role}={d.version_name}" for role, d in dependencies.items() if role != BASE]
    if others:
        made[ANNOTATION_REFERENCES] = ",".join(others)
    return made


def job(training: Training, plan: Plan, settings: Settings) -> Obj:
    """Return the attempt's Job; its version label reserves the number."""
    metadata = _metadata(training, plan.index)
    metadata["labels"][LABEL_VERSION] = str(plan.min_version)
    if annotations := _decided(plan.dependencies):
        metadata["annotations"] = annotations
    nodes = training.spec.compute.nodes
    spec: Obj = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": pod_failure_policy(),
        "template": _pod(training, plan, settings),
    }
    if plan.seconds is not None:
        spec["activeDeadlineSeconds"] = plan.seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def removal(training: Training, settings: Settings) -> Obj:
    """Return the Job that removes the checkpoints of a training that failed for good."""
    image = training.status.trainer_image or training.spec.trainer.image or settings.trainer_image
    return retention.job(training, image, _POD, _CONTAINER)


def policy_version(training: Training, record: RecordVersion, cost: Cost | None) -> Obj:
    """Return the registry's record. It has no owner: a version outlives its training."""
    artifact = record.report.artifact
    if artifact is None:
        raise ValueError("a version needs an artifact")
    spec = training.spec
    secret = spec.artifact.secret_ref
    version = PolicyVersionSpec(
        policy=spec.policy,
        version=artifact.version,
        artifact=VersionArtifact(
            uri=artifact.uri,
            sha256=artifact.sha256,
            secret_ref=SecretRef(name=secret.name) if secret is not None else None,
        ),
        training=TrainingOrigin(name=training.meta.name, uid=training.meta.uid),
        recipe=spec.recipe,
        tag=spec.tag,
        parent_version=record.parent_version,
        cost=cost,
        metrics=list(record.metrics),
    )
    labels = {
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_POLICY: spec.policy,
        LABEL_VERSION: str(artifact.version),
        LABEL_TRAINING: training.meta.name,
    }
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "PolicyVersion",
        "metadata": {
            "name": version_name(spec.policy, artifact.version),
            "namespace": training.meta.namespace,
            "labels": labels,
        },
        "spec": version.to_wire(),
    }
