"""A small world for trainings: Jobs and pods as the cluster reports them, and a simulated cluster.

`Cluster` applies decisions as the API server and the Job controller would, so that a test can play
a whole life of a training through the pure functions alone.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from policy_api import reasons
from policy_api.base import ObjectMeta, rfc3339
from policy_api.keys import COND_ACCEPTED
from policy_api.rules.conditions import get_condition, set_condition
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import PolicyVersionStatus, TrainingOrigin, VersionArtifact
from policy_operator.registry.types import VersionRecord
from policy_operator.settings import Settings
from policy_operator.training import build
from policy_operator.training.attempts import is_open
from policy_operator.training.build import resources
from policy_operator.training.decide import decide
from policy_operator.training.outcome import job_runs, view
from policy_operator.training.pods import pod_active
from policy_operator.training.starts import lingering
from policy_operator.training.types import (
    Child,
    CompleteAttempt,
    Decision,
    DeleteChild,
    DeleteTraining,
    Observed,
    RecordVersion,
    RemoveCheckpoints,
    SetDeadline,
    StartAttempt,
    StopJob,
    Training,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(namespace="system", trainer_image="registry.example/trainer:1")
SPEC = {
    "policy": "forge",
    "recipe": "SFT",
    "sft": {},
    "base": {"scratch": {}},
    "data": [{"name": "train", "uri": "configmap://data/train.jsonl"}],
    "exitCriteria": [{"metric": "eval_loss", "max": 2.5}],
    "artifact": {"uri": "pvc://artifacts/models"},
}


def training(status=None, **changes) -> Training:
    """Return a training; changes replace fields of its spec, None removes one."""
    spec = {k: v for k, v in {**SPEC, **changes}.items() if v is not None}
    return Training(
        meta=ObjectMeta(
            name="sft", namespace="ml", uid="t-uid", generation=1, creation_timestamp=T0
        ),
        spec=PolicyTrainingSpec.model_validate(spec),
        status=status or PolicyTrainingStatus(),
    )


def job(
    index=0,
    *,
    nodes=1,
    at=T0,
    suspend=False,
    by="Suspended",
    conditions=(),
    limits=None,
    uid=None,
):
    """Return an attempt's Job; `by` marks a suspension as ours, None as somebody else's."""
    marks = {"policyops.dev/stopped-by": by} if suspend and by else {}
    return {
        "metadata": {
            "name": f"sft-{index}",
            "namespace": "ml",
            "uid": uid or f"job-{index}",
            "creationTimestamp": rfc3339(at),
            "labels": {"policyops.dev/attempt": str(index), "policyops.dev/version": "1"},
            "annotations": marks,
        },
        "spec": {
            "completions": nodes,
            "suspend": suspend,
            "template": {
                "spec": {"containers": [{"name": "trainer", "resources": {"limits": limits or {}}}]}
            },
        },
        "status": {"conditions": [*conditions]},
    }


def condition(kind, reason="", at=T0):
    """Return a condition that is True."""
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "lastTransitionTime": rfc3339(at),
    }


COMPLETE = condition("Complete")
FAILED = condition("Failed", "PodFailurePolicy")


def pod(
    index=0, phase="Pending", *, of="job-0", conditions=(), state=None, deleted=False, **status
):
    """Return a pod of a Job."""
    container = {"name": "trainer", "state": state or {}}
    metadata = {
        "name": f"sft-0-{index}-abcde",
        "uid": f"pod-{of}-{index}",
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        "ownerReferences": [{"uid": of, "controller": True}],
        "creationTimestamp": rfc3339(T0),
    }
    if deleted:
        metadata["deletionTimestamp"] = rfc3339(T0)  # when its grace time is over
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "trainer", "image": "registry.example/trainer:1"}]},
        "status": {
            "phase": phase,
            "conditions": [*conditions],
            "containerStatuses": [container],
            **status,
        },
    }


def meshed(made, **proxy):
    """Give a pod a second container, as a service mesh does; it runs unless told otherwise."""
    status = made["status"]
    state = proxy or {"running": {"startedAt": rfc3339(T0)}}
    proxies = [*made["spec"]["containers"], {"name": "proxy", "image": "mesh:1"}]
    return made | {
        "spec": made["spec"] | {"containers": proxies},
        "status": status
        | {
            "phase": "Running",
            "containerStatuses": [*status["containerStatuses"], {"name": "proxy", "state": state}],
        },
    }


def report(outcome, **fields):
    """Return a termination message."""
    return json.dumps({"outcome": outcome, **fields})


def done(version=1, loss=2.0):
    """Return the report of a completed training."""
    return report(
        "Completed",
        step=20,
        maxSteps=20,
        metrics=[{"name": "eval_loss", "value": loss}],
        artifact={
            "uri": f"pvc://artifacts/models/forge/{version}",
            "sha256": "0" * 64,
            "version": version,
        },
    )


def ended(index=0, code=0, message="", *, reason=None, at=T0, **fields):
    """Return a pod that has ended."""
    terminated = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "finishedAt": rfc3339(at),
        "message": message,
    }
    phase = "Succeeded" if code == 0 else "Failed"
    return pod(index, phase, state={"terminated": terminated}, **fields)


def recorded(uid="t-uid", *, training="sft", judged=True) -> VersionRecord:
    """Return what the registry has of version 1."""
    verdict = set_condition((), COND_ACCEPTED, "True", reasons.EXIT_CRITERIA_MET, "", now=T0)
    return VersionRecord(
        version=1,
        artifact=VersionArtifact(uri="pvc://artifacts/models/forge/1", sha256="0" * 64),
        training=TrainingOrigin(name=training, uid=uid),
        status=PolicyVersionStatus(conditions=list(verdict) if judged else []),
    )


@dataclass
class Cluster:
    """Applies decisions to Jobs, and lets a test end them."""

    training: Training
    now: datetime = T0
    jobs: dict[int, dict] = field(default_factory=dict)
    pods: dict[int, list[dict]] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    dependencies: dict[str, object] = field(default_factory=dict)
    version: VersionRecord | None = None
    progress: object = None
    refusal: object = None
    unchangeable: str | None = None
    removal: dict | None = None
    versions_made: list[int] = field(default_factory=list)
    jobs_made: list[int] = field(default_factory=list)
    deleted: bool = False
    events: list = field(default_factory=list)
    pod_spec: dict | None = None
    """What admission makes of pods; None: they have what the training asks for."""

    def observe(self) -> Observed:
        """Return what `observe` would."""
        status = self.training.status
        views = tuple(
            view(self.jobs[i], self.pods.get(i, []), complete=i in self.complete)
            for i in sorted(self.jobs)
            if is_open(status, i)
        )
        active = {v.index for v in views if v.end is None}
        over = [i for i in sorted(self.jobs) if not is_open(status, i)]
        running = [i for i in over if job_runs(self.jobs[i])]
        again = [i for i in running if self.jobs[i]["metadata"].get("annotations")]
        return Observed(
            attempts=views,
            children=tuple(
                Child(i, "Job", f"sft-{i}", f"job-{i}", running=i in again) for i in over
            ),
            reserved=7 if self.jobs else None,
            pods_left=any(
                pod_active(p) for i in self.jobs if i not in active for p in self.pods.get(i, ())
            ),
            left_running=tuple(f"sft-{i}" for i in running if i not in again),
            lingering=lingering(p for pods in self.pods.values() for p in pods),
            dependencies=self.dependencies,
            version=self.version,
            progress=self.progress,
            refusal=self.refusal,
            unchangeable=self.unchangeable,
            removal=self.removal,
        )

    def decide(self) -> Decision:
        """Decide once, apply nothing."""
        return decide(self.training, self.observe(), self.now)

    def step(self, writes: int | None = None) -> Decision:
        """Decide and apply; after this many writes the process dies."""
        decision = self.decide()
        left = [*decision.actions, "status"]
        for done_before, action in enumerate(left):
            if writes is not None and done_before >= writes:
                return decision
            self.apply(action, decision)
        self.events += decision.events
        return decision

    def apply(self, action, decision: Decision) -> None:  # noqa: C901 - one case a write
        """Carry out one write."""
        match action:
            case StartAttempt(index, seconds=seconds):
                if index not in self.jobs:
                    self.jobs[index] = job(index, at=self.now, nodes=self.nodes)
                    self.jobs[index]["spec"]["activeDeadlineSeconds"] = seconds
                    self.jobs_made.append(index)
            case CompleteAttempt(index):
                self.complete.add(index)
            case StopJob(name, by):
                stopped = self.jobs[int(name.rsplit("-", 1)[1])]
                stopped["spec"]["suspend"] = True
                marks = stopped["metadata"].setdefault("annotations", {})
                marks["policyops.dev/stopped-by"] = by
            case SetDeadline(name, seconds):
                self.jobs[int(name.rsplit("-", 1)[1])]["spec"]["activeDeadlineSeconds"] = seconds
            case RemoveCheckpoints():
                self.removal = build.removal(self.training, SETTINGS)
                self.removal["metadata"]["uid"] = "removal"
            case DeleteChild("Job", "sft-sweep"):
                self.removal = None
            case DeleteChild("Job", name):
                del self.jobs[int(name.rsplit("-", 1)[1])]
            case RecordVersion(r):
                if self.version is None:
                    self.versions_made.append(r.artifact.version)
                self.version = recorded()
            case DeleteTraining():
                self.deleted = True
            case "status":
                self.training = replace(self.training, status=decision.status)

    @property
    def nodes(self) -> int:
        """Pods of an attempt."""
        return self.training.spec.compute.nodes

    def settle(self, rounds: int = 20) -> Decision:
        """Step until nothing changes."""
        for _ in range(rounds):
            before = (self.training, dict(self.jobs), set(self.complete))
            decision = self.step()
            if self.deleted:
                return decision
            if (self.training, self.jobs, self.complete) == before and not decision.actions:
                return decision
        raise AssertionError("it does not settle")

    def run(self, index: int) -> None:
        """Let an attempt's pods run."""
        self.pods[index] = [
            pod(i, "Running", of=f"job-{index}", startTime=rfc3339(self.now))
            for i in range(self.nodes)
        ]
        for each in self.pods[index]:
            each["spec"] = self.pod_spec or each["spec"] | {
                "containers": [{"name": "trainer", "resources": resources(self.training)}]
            }

    def end(self, index: int, *pods: dict, failed: bool) -> None:
        """End an attempt."""
        started = [p["status"].get("startTime") for p in self.pods.get(index, [])]
        for each in pods:
            each["metadata"]["ownerReferences"] = [{"uid": f"job-{index}", "controller": True}]
            if started and started[0]:
                each["status"]["startTime"] = started[0]
        if self.pods.get(index):
            for each in pods:
                each["spec"] = self.pods[index][0]["spec"]
        self.pods[index] = [*pods]
        kind = condition("Failed", "PodFailurePolicy", self.now) if failed else None
        self.jobs[index]["status"]["conditions"] = [
            kind or condition("Complete", "CompletionsReached", self.now)
        ]

    def later(self, seconds: float) -> "Cluster":
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self


def status_of(cluster: Cluster, kind: str = "Succeeded"):
    """Return (status, reason, message) of a condition."""
    found = get_condition(cluster.training.status.conditions, kind)
    return found and (found.status, found.reason, found.message)


def started(**changes) -> Cluster:
    """Return a cluster whose first attempt trains; changes as of `training`."""
    cluster = Cluster(training(**changes))
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    return cluster


def suspend(cluster: Cluster, value: bool) -> None:
    """Let a person set `spec.suspend`."""
    change(cluster, suspend=value)


def change(cluster: Cluster, **fields) -> None:
    """Let a person change fields of the spec, named as in Python."""
    spec = cluster.training.spec.model_copy(update=fields)
    cluster.training = replace(cluster.training, spec=spec)


def hold(cluster: Cluster, index: int = 0) -> None:
    """Let somebody else suspend a Job: its pods are gone at once."""
    job = cluster.jobs[index]
    job["spec"]["suspend"] = True
    job["status"]["conditions"] = [condition("Suspended", "JobSuspended", cluster.now)]
    cluster.pods[index] = []


def release(cluster: Cluster, index: int = 0) -> None:
    """Let them resume it: it makes new pods."""
    job = cluster.jobs[index]
    job["spec"]["suspend"] = False
    job["status"] = {"conditions": [], "startTime": rfc3339(cluster.now)}
    cluster.run(index)
