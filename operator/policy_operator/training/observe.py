"""Read what a decision about a training looks at: from the cache, seldom from the API server."""

from collections.abc import Sequence

from policy_api.conditions import get_condition
from policy_api.keys import (
    ANNOTATION_BASE,
    COND_ACCEPTED,
    COND_SUCCEEDED,
    LABEL_TRAINING,
)
from policy_api.run import BaseArtifact
from policy_api.v1alpha1.version import PolicyVersionSpec, PolicyVersionStatus, version_name

from policy_operator.cache import Cache, Obj
from policy_operator.context import Context
from policy_operator.training.outcome import pod_active, view
from policy_operator.training.storage import local_path
from policy_operator.training.types import (
    AttemptView,
    BaseFailed,
    BaseReady,
    BaseState,
    BaseWaiting,
    NoBase,
    Observed,
    Training,
    VersionRecord,
)
from policy_operator.versions import label_number


def owned_by(obj: Obj, uid: str) -> bool:
    """Whether the object names this uid as an owner."""
    return any(o["uid"] == uid for o in obj["metadata"].get("ownerReferences") or ())


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
        j["metadata"]["name"]: j for j in _mine(ctx.cache, "Job", training) if owned_by(j, meta.uid)
    }
    for attempt in training.status.attempts:
        if attempt.ended_at is None and attempt.job not in jobs:
            found = await ctx.kube.get("Job", meta.namespace, attempt.job)
            if found is not None and owned_by(found, meta.uid):
                jobs[attempt.job] = found
    return sorted(jobs.values(), key=_index)


def _index(job: Obj) -> int:
    return int(job["metadata"]["name"].rsplit("-", 1)[1])


def reserved_version(jobs: Sequence[Obj]) -> int | None:
    """Return the number that an earlier attempt of the training reserved."""
    return next((n for job in jobs if (n := label_number(job))), None)


def base_artifact(version: Obj) -> BaseReady:
    """Return what a pod needs to start from a PolicyVersion."""
    spec = PolicyVersionSpec.model_validate(version["spec"])
    secret = spec.artifact.secret_ref
    return BaseReady(
        artifact=BaseArtifact(
            uri=spec.artifact.uri,
            path=local_path(spec.artifact.uri),
            sha256=spec.artifact.sha256,
            policy=spec.policy,
            version=spec.version,
        ),
        version_name=version["metadata"]["name"],
        secret=secret.name if secret is not None else None,
    )


def base_state(  # noqa: PLR0911 - one return a case
    cache: Cache, training: Training, decided: str | None
) -> BaseState:
    """Say what the training starts from, or why it can't yet.

    Args:
        cache: Where the other training and its version are looked up.
        training: The one that has a base.
        decided: Name of the PolicyVersion that the first attempt took: later ones take the same,
            even when the other training is gone.
    """
    ref = training.spec.base.training
    if ref is None:
        return NoBase()
    namespace = training.meta.namespace
    if decided is not None:
        version = cache.get("PolicyVersion", namespace, decided)
        if version is None:
            return BaseFailed(f"PolicyVersion {decided}, which training starts from, was deleted")
        return base_artifact(version)
    other = cache.get("PolicyTraining", namespace, ref.name)
    if other is None:
        return BaseWaiting(f"waits for PolicyTraining {ref.name}, which does not exist yet")
    theirs = Training.parse(other)
    verdict = get_condition(theirs.status.conditions, COND_SUCCEEDED)
    if verdict is None or verdict.status == "Unknown":
        state = theirs.status.state or "new"
        return BaseWaiting(f"waits for PolicyTraining {ref.name}, which is {state}")
    if verdict.status == "False":
        said = f"{verdict.reason}: {verdict.message}"
        return BaseFailed(f"PolicyTraining {ref.name}, its base, failed ({said})")
    number = theirs.status.version
    name = version_name(theirs.spec.policy, number) if number is not None else ""
    version = cache.get("PolicyVersion", namespace, name)
    if version is None or version["spec"]["training"]["uid"] != theirs.meta.uid:
        return BaseFailed(
            f"PolicyTraining {ref.name}, its base, succeeded, but its PolicyVersion {name} is gone"
        )
    return base_artifact(version)


def version_record(cache: Cache, training: Training, number: int) -> VersionRecord | None:
    """Return what is recorded under the number that our trainer claimed."""
    name = version_name(training.spec.policy, number)
    version = cache.get("PolicyVersion", training.meta.namespace, name)
    if version is None:
        return None
    origin = version["spec"]["training"]
    status = PolicyVersionStatus.model_validate(version.get("status") or {})
    return VersionRecord(
        ours=origin["uid"] == training.meta.uid,
        judged=get_condition(status.conditions, COND_ACCEPTED) is not None,
        training=origin["name"],
    )


def _complete(cache: Cache, training: Training, job: str) -> bool:
    kinds = ("ConfigMap", "Service") if training.spec.compute.nodes > 1 else ("ConfigMap",)
    children = (cache.get(kind, training.meta.namespace, job) for kind in kinds)
    return all(child is not None and owned_by(child, training.meta.uid) for child in children)


async def observe(ctx: Context, training: Training) -> tuple[Observed, int | None]:
    """Return what is, and the version number that the training has reserved already."""
    meta, cache = training.meta, ctx.cache
    ended = {a.index for a in training.status.attempts if a.ended_at is not None}
    jobs = await _jobs(ctx, training)
    pods = _mine(cache, "Pod", training)
    open_jobs = [j for j in jobs if _index(j) not in ended]
    views: list[AttemptView] = [
        view(job, pods, complete=_complete(cache, training, job["metadata"]["name"]))
        for job in open_jobs
    ]
    active = {j["metadata"]["uid"] for j, v in zip(open_jobs, views, strict=True) if v.end is None}
    pods_left = any(pod_active(p) and not any(owned_by(p, u) for u in active) for p in pods)
    decided = next((name for j in jobs if (name := annotation(j, ANNOTATION_BASE))), None)
    record = None
    report = views[-1].end.report if views and views[-1].end is not None else None
    if report is not None and report.artifact is not None:
        record = version_record(cache, training, report.artifact.version)
    observed = Observed(
        attempts=tuple(views),
        pods_left=pods_left,
        base=base_state(cache, training, decided),
        version=record,
        progress=ctx.progress.get(meta.namespace, meta.name, meta.uid),
    )
    return observed, reserved_version(jobs)
