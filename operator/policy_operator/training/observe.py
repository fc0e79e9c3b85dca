"""Read what a decision about a training looks at: from the cache, seldom from the API server."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from policy_api.keys import (
    ANNOTATION_BASE,
    ANNOTATION_REFERENCES,
    ANNOTATION_STOPPED_BY,
    KIND_TRAINING,
    LABEL_ATTEMPT,
    LABEL_SWEEP,
    LABEL_TRAINING,
)
from policy_api.rules.needs import BASE
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import version_name

from policy_operator.children import controller, owned
from policy_operator.context import Context
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.registry.numbers import label_number
from policy_operator.registry.types import VersionRecord
from policy_operator.training import dependencies, retention
from policy_operator.training.attempts import KEPT_JOBS, is_open
from policy_operator.training.outcome import job_finished, job_runs, on_hold, view
from policy_operator.training.patience import silent_for_long, told
from policy_operator.training.pods import CONTAINER, pod_active
from policy_operator.training.queueing import why_suspended
from policy_operator.training.starts import lingering
from policy_operator.training.types import AttemptView, Child, Observed, Training


def annotation(obj: Obj, name: str) -> str | None:
    """Return an annotation's value."""
    value = (obj["metadata"].get("annotations") or {}).get(name)
    return str(value) if value else None


def _mine(cache: Cache, kind: str, training: Training) -> list[Obj]:
    meta = training.meta
    return cache.list(kind, meta.namespace, {LABEL_TRAINING: meta.name})


async def _jobs(ctx: Context, training: Training) -> list[Obj]:
    """Return the training's Jobs, oldest first.

    A Job that the status knows to run and the cache does not is asked for: only the API server's
    word makes it deleted.
    """
    meta = training.meta
    jobs = {
        j["metadata"]["name"]: j
        for j in _mine(ctx.cache, "Job", training)
        if owned(j, meta.uid) and LABEL_ATTEMPT in j["metadata"]["labels"]
    }
    for attempt in training.status.attempts:
        if attempt.ended_at is None and attempt.job not in jobs:
            found = await ctx.kube.get("Job", meta.namespace, attempt.job)
            if found is not None and owned(found, meta.uid):
                jobs[attempt.job] = found
    return sorted(jobs.values(), key=_index)


def _index(job: Obj) -> int:
    return int(job["metadata"]["labels"][LABEL_ATTEMPT])


def reserved_version(status: PolicyTrainingStatus, jobs: Sequence[Obj]) -> int | None:
    """Return the number that an earlier attempt of the training reserved."""
    return status.reserved_version or next((n for job in jobs if (n := label_number(job))), None)


def decided_versions(jobs: Sequence[Obj]) -> dict[str, str]:
    """Return the PolicyVersions that the first attempt took, by role."""
    for job in jobs:
        base = annotation(job, ANNOTATION_BASE)
        others = annotation(job, ANNOTATION_REFERENCES) or ""
        found = dict(pair.split("=", 1) for pair in others.split(",") if pair)
        if base is not None:
            found[BASE] = base
        if found:
            return found
    return {}


def _decided(training: Training, jobs: Sequence[Obj]) -> dict[str, str]:
    told = {d.role: d.version for d in training.status.dependencies if d.version is not None}
    return {**told, **decided_versions(jobs)}


def version_record(cache: Cache, training: Training, number: int) -> VersionRecord | None:
    """Return what is recorded under the number that our trainer claimed."""
    name = version_name(training.spec.policy, number)
    version = cache.get("PolicyVersion", training.meta.namespace, name)
    return VersionRecord.parse(version) if version is not None else None


def _resumed(job: Obj) -> bool:
    """Whether somebody else runs a Job again that we have stopped."""
    return job_runs(job) and annotation(job, ANNOTATION_STOPPED_BY) is not None


def _children(cache: Cache, training: Training, jobs: Sequence[Obj]) -> tuple[Child, ...]:
    """Return what is left of attempts whose end the status knows."""
    status, made = training.status, [("Job", job) for job in jobs]
    if status.attempts and status.attempts[-1].index >= KEPT_JOBS:
        uid = training.meta.uid
        made += [
            (kind, obj)
            for kind in ("ConfigMap", "Service")
            for obj in _mine(cache, kind, training)
            if owned(obj, uid)
        ]
    found = (
        Child(
            index=_index(obj),
            kind=kind,
            name=obj["metadata"]["name"],
            uid=obj["metadata"]["uid"],
            running=kind == "Job" and _resumed(obj),
        )
        for kind, obj in made
    )
    return tuple(child for child in found if not is_open(status, child.index))


def _complete(cache: Cache, training: Training, job: str) -> bool:
    kinds = ("ConfigMap", "Service") if training.spec.compute.nodes > 1 else ("ConfigMap",)
    children = (cache.get(kind, training.meta.namespace, job) for kind in kinds)
    return all(child is not None and owned(child, training.meta.uid) for child in children)


def image(job: Obj) -> str | None:
    """Return the image of a Job's trainer."""
    containers = job["spec"]["template"]["spec"]["containers"]
    return next((str(c["image"]) for c in containers if c["name"] == CONTAINER), None)


def _removal(cache: Cache, training: Training) -> Obj | None:
    """Return the Job that removes the training's checkpoints."""
    found = cache.get("Job", training.meta.namespace, retention.job_name(training))
    return found if found is not None and owned(found, training.meta.uid) else None


def _removals(cache: Cache, namespace: str) -> int:
    """Count the Jobs of a namespace that remove checkpoints and have not ended."""
    jobs = cache.list("Job", namespace, {LABEL_SWEEP: retention.SWEEP})
    return sum(job_finished(job) is None for job in jobs)


def _leftover(cache: Cache, training: Training, pods: Sequence[Obj]) -> str | None:
    """Say what an older training of the same name has left, which was deleted.

    Its pods may still save, and a new pod would mount its ConfigMap: they have the same names.
    """
    meta = training.meta
    for pod in pods:
        node = pod["spec"].get("nodeName")
        where = f" on node {node}" if node else ""
        return (
            f"waits for the end of pod {pod['metadata']['name']}{where}, of a deleted training of "
            "this name"
        )
    attempts = training.status.attempts
    name = f"{meta.name}-{attempts[-1].index + 1 if attempts else 0}"
    for kind in ("Job", "ConfigMap", "Service"):
        obj = cache.get(kind, meta.namespace, name)
        owner = controller(obj) if obj is not None else None
        if owner is not None and owner["kind"] == KIND_TRAINING and owner["uid"] != meta.uid:
            return f"waits until {kind} {name}, of a deleted training of this name, is gone"
    return None


async def _explained(ctx: Context, namespace: str, seen: AttemptView, now: datetime) -> AttemptView:
    """Add what Events say of an attempt that has not started for long."""
    silence = seen.silence
    if seen.end is not None or silence is None or not silent_for_long(silence, now):
        return seen
    if silence.kind == "Job":
        note = await ctx.complaints.job(namespace, silence.uid, silence.heard)
    else:
        note = await ctx.complaints.pod(namespace, silence.uid)
    return told(seen, note) if note is not None else seen


async def observe(ctx: Context, training: Training, now: datetime) -> tuple[Observed, int | None]:
    """Return what is, and the version number that the training has reserved already."""
    meta, cache = training.meta, ctx.cache
    jobs = await _jobs(ctx, training)
    pods = _mine(cache, "Pod", training)
    open_jobs = [j for j in jobs if is_open(training.status, _index(j))]
    reserved = reserved_version(training.status, jobs)
    views: list[AttemptView] = [
        view(job, pods, complete=_complete(cache, training, job["metadata"]["name"]))
        for job in open_jobs
    ]
    views = [
        replace(v, message=on_hold(j, await why_suspended(ctx.kube, j))) if v.suspended else v
        for j, v in zip(open_jobs, views, strict=True)
    ]
    if views:
        views[-1] = await _explained(ctx, meta.namespace, views[-1], now)
    active = {j["metadata"]["uid"] for j, v in zip(open_jobs, views, strict=True) if v.end is None}
    others = [p for p in pods if pod_active(p) and not any(owned(p, u) for u in active)]
    begun = bool(jobs or training.status.attempts)
    record = None
    report = views[-1].end.report if views and views[-1].end is not None else None
    if report is not None and report.artifact is not None:
        record = version_record(cache, training, report.artifact.version)
    observed = Observed(
        attempts=tuple(views),
        pods_left=begun and bool(others),
        leftover=_leftover(cache, training, [] if begun else others),
        children=_children(cache, training, jobs),
        reserved=reserved,
        left_running=tuple(
            j["metadata"]["name"]
            for j in jobs
            if not is_open(training.status, _index(j)) and job_runs(j) and not _resumed(j)
        ),
        lingering=lingering(pods),
        dependencies=dependencies.find(cache, training, _decided(training, jobs)),
        version=record,
        progress=ctx.progress.get(meta.namespace, meta.name, meta.uid),
        trainer_image=image(jobs[-1]) if jobs else None,
        removal=_removal(cache, training),
        removals=_removals(cache, meta.namespace),
    )
    return observed, reserved
