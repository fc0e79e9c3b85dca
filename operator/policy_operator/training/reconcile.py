"""Reconcile one PolicyTraining: observe, decide, apply, write the status once, tell the news.

Every step may be the last before the process is killed. So children come before the status that
speaks of them, names are deterministic, and a child that exists is not made again.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from policy_api import reasons, skew
from policy_api.contract.checkpoints import CheckpointRules
from policy_api.keys import ANNOTATION_STOPPED_BY, COND_ACCEPTED, KIND_TRAINING
from policy_api.rules.conditions import set_condition
from policy_api.rules.criteria import summary
from policy_api.v1alpha1.criteria import OnUnmet
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import PolicyVersionStatus

from policy_operator import ownership
from policy_operator.children import owned
from policy_operator.context import Context
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from policy_operator.machinery.events import Event
from policy_operator.machinery.queue import Key, utcnow
from policy_operator.training import build, retention
from policy_operator.training.decide import decide
from policy_operator.training.observe import observe
from policy_operator.training.status import blocked, finished
from policy_operator.training.types import (
    Change,
    CompleteAttempt,
    Decision,
    DeleteChild,
    DeleteTraining,
    Dependencies,
    Make,
    RecordVersion,
    Refusal,
    RemoveCheckpoints,
    SetDeadline,
    StartAttempt,
    StopJob,
    Training,
)

log = logging.getLogger(__name__)

# Who can't see these can't tell a training that never ran from one that runs.
_NEEDS = ("PolicyTraining", "PolicyVersion", "Job", "Pod", "ConfigMap", "Service")
_LOOK_AGAIN = timedelta(seconds=15)
# The world may answer otherwise than the cache said; after this many answers, back off.
_ROUNDS = 5


class Refused(Exception):  # noqa: N818 - not an error of ours
    """The API server did not take a child of the training."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Unchangeable(Exception):  # noqa: N818 - not an error of ours
    """The API server lets nobody change or delete something of the training."""


class Changed(Exception):  # noqa: N818 - not an error
    """Something is other than the cache said; the cache knows now: decide again."""


async def reconcile(key: Key, ctx: Context, now: datetime) -> datetime | None:
    """Bring one training a step further.

    Returns:
        When to look again, even if nothing happens.

    Raises:
        ApiError, OSError, TimeoutError: a call failed; to be tried again.
    """
    refusal: Refusal | None = None
    unchangeable: str | None = None
    for _ in range(_ROUNDS):
        obj = ctx.cache.get(key.kind, key.namespace, key.name)
        if obj is None:
            ctx.progress.forget(key.namespace, key.name)
            ctx.queue.forget(key)
            return None
        training = Training.parse(obj)
        if (why := ctx.unreadable(key.namespace, *_NEEDS)) is not None:
            return await _wait(ctx, obj, training, why, now)
        observed, reserved = await observe(ctx, training, now)
        observed = replace(observed, refusal=refusal, unchangeable=unchangeable)
        decision = decide(training, observed, now)
        try:
            await _apply(ctx, training, decision, reserved)
            if any(isinstance(action, StartAttempt) for action in decision.actions):
                _tell(ctx, obj, decision)
                if ctx.queue.crowded:  # others have no Job yet: the rest of this one comes later
                    ctx.queue.add(key)
                    return None
                continue  # the Job says all that the status would, and the status follows from it
            await _write(ctx, obj, training, decision)
        except Refused as error:
            refusal = error.refusal
        except Unchangeable as error:
            unchangeable = str(error)
        except (Changed, Conflict) as change:
            log.info("%s; deciding again", change)
        else:
            return decision.next_check_at
    raise TimeoutError(f"nothing could be settled in {_ROUNDS} rounds")


async def _wait(ctx: Context, obj: Obj, training: Training, why: str, now: datetime) -> datetime:
    """Say that nothing can be decided: what is missing may be what we are not shown."""
    status = blocked(training, why, now)
    event = Event("Warning", reasons.PERMISSION_MISSING, why)
    news = status.state != training.status.state
    await _write(ctx, obj, training, Decision(status=status, events=(event,) * news))
    return now + _LOOK_AGAIN


async def _write(ctx: Context, obj: Obj, training: Training, decision: Decision) -> None:
    """Write the status if it changed, then tell the news."""
    status = decision.status
    if status != training.status:
        try:
            new = skew.carried(obj.get("status"), status)
            await ctx.kube.patch_status("PolicyTraining", obj, new)
        except NotFound:
            return  # deleted meanwhile: there is nobody left to tell
    if status.state != training.status.state:
        # What follows from the new state may be due with all else there already.
        ctx.queue.add(Key("PolicyTraining", training.meta.namespace, training.meta.name))
    if finished(status):
        ctx.progress.forget(training.meta.namespace, training.meta.name)
    _tell(ctx, obj, decision)


def _tell(ctx: Context, obj: Obj, decision: Decision) -> None:
    for event in decision.events:
        ctx.events.emit(obj, event)


async def _apply(
    ctx: Context, training: Training, decision: Decision, reserved: int | None
) -> None:
    for action in decision.actions:
        if isinstance(action, Change):
            await _change(ctx, training, action)
        else:
            await _make(ctx, training, action, decision.status, reserved)


async def _make(
    ctx: Context,
    training: Training,
    action: Make,
    status: PolicyTrainingStatus,
    reserved: int | None,
) -> None:
    match action:
        case StartAttempt(index, needed, seconds, run_seconds, image):
            plan = replace(
                _plan(ctx, training, index, needed, reserved),
                seconds=seconds,
                run_seconds=run_seconds,
                image=image,
            )
            await _create_own(ctx, training, build.job(training, plan, ctx.settings))
        case CompleteAttempt(index, needed, image):
            plan = replace(
                _plan(ctx, training, index, needed, reserved),
                image=image,
                rules=await _rules(ctx, training),
            )
            await _create_all(ctx, training, build.needs(training, plan, ctx.settings))
        case RemoveCheckpoints():
            await _create_own(ctx, training, build.removal(training, ctx.settings))
        case RecordVersion():
            await _record(ctx, training, action, status)
        case _:
            assert_never(action)


async def _change(ctx: Context, training: Training, action: Change) -> None:
    meta = training.meta
    match action:
        case StopJob(job, by):
            marked = {"annotations": {ANNOTATION_STOPPED_BY: by}}  # in the same write: it was us
            patch = {"metadata": marked, "spec": {"suspend": True}}
            await _tried(f"to stop Job {job}", _patch_job(ctx, training, job, patch))
        case SetDeadline(job, left):
            patch = {"spec": {"activeDeadlineSeconds": left}}
            what = f"to set the deadline of Job {job}"
            await _tried(what, _patch_job(ctx, training, job, patch))
        case DeleteChild(kind, name, uid):
            delete = ctx.kube.delete(kind, meta.namespace, name, uid=uid)
            await _tried(f"to delete {kind} {name}", delete)
        case DeleteTraining():
            delete = ctx.kube.delete("PolicyTraining", meta.namespace, meta.name, uid=meta.uid)
            await _tried("to delete this training, whose time is over", delete)
        case _:
            assert_never(action)


async def _tried(what: str, call: Awaitable[object]) -> None:
    """Await a change; say of one that is refused what it was for."""
    try:
        await call
    except (Invalid, Denied) as error:
        raise Unchangeable(f"the API server refuses {what}: {error.message}") from error


def _plan(
    ctx: Context, training: Training, index: int, needed: Dependencies, reserved: int | None
) -> build.Plan:
    meta = training.meta
    number = reserved
    if number is None:
        number = ctx.numbers.reserve(meta.namespace, training.spec.policy, meta.uid)
    return build.Plan(index=index, min_version=number, dependencies=needed, ca=ctx.authority.ca)


async def _rules(ctx: Context, training: Training) -> CheckpointRules | None:
    """Return what the attempt's pods are told about keeping checkpoints."""
    cluster = await ctx.kube.cluster_uid()
    now = utcnow()  # before the list: what is not in it was made later
    others = ctx.cache.of_policy(KIND_TRAINING, training.meta.namespace, training.spec.policy)
    return retention.rules(training, others, cluster, now)


async def _create_own(ctx: Context, training: Training, manifest: Obj) -> None:
    """Create a child; one that we made before is fine, one of somebody else is not."""
    try:
        await ctx.kube.create(manifest)
    except AlreadyExists:
        try:
            found = await ownership.find(ctx.kube, ctx.cache, manifest, training.meta.uid)
        except ownership.Taken as taken:
            raise Refused(_name_taken(taken)) from None
        if found is None:
            raise Changed(f"{manifest['kind']} {manifest['metadata']['name']} is gone") from None
    except (Invalid, Denied) as error:
        raise _refused(manifest, error) from error


def _refused(manifest: Obj, error: Invalid | Denied) -> Refused:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    message = f"the API server refuses {name}: {error.message}"
    return Refused(Refusal(message, final=isinstance(error, Invalid)))


def _name_taken(taken: ownership.Taken) -> Refusal:
    """Say whose the name is, and what to do: the training waits, and goes on once it is free."""
    what = taken.foreign.sentence
    return Refusal(f"{what}: delete or rename it, or train under another name", final=False)


async def _create_all(ctx: Context, training: Training, manifests: list[Obj]) -> None:
    """Create children side by side; the first refusal counts, after all have been answered."""
    results = await asyncio.gather(
        *(_create_own(ctx, training, m) for m in manifests), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _patch_job(ctx: Context, training: Training, job: str, patch: Obj) -> None:
    """Change a Job of ours: that very one, not a later one of its name."""
    namespace = training.meta.namespace
    seen = ctx.cache.get("Job", namespace, job)
    if seen is None or not owned(seen, training.meta.uid):
        raise Changed(f"Job {job} is gone")
    try:
        await ctx.kube.merge_patch("Job", namespace, job, patch, seen=seen)
    except NotFound:
        raise Changed(f"Job {job} is gone") from None


async def _record(
    ctx: Context, training: Training, record: RecordVersion, status: PolicyTrainingStatus
) -> None:
    """Claim the number by creating the PolicyVersion, then write the verdict into it."""
    manifest = build.policy_version(training, record, status.cost)
    namespace, name = training.meta.namespace, manifest["metadata"]["name"]
    number = manifest["spec"]["version"]
    try:
        await ctx.numbers.remember(ctx.kube, namespace, training.spec.policy, number)
    except ownership.Taken as taken:
        raise Refused(_name_taken(taken)) from None
    try:
        version = await ctx.kube.create(manifest)
    except AlreadyExists:
        found = await ctx.kube.get("PolicyVersion", namespace, name)
        if found is None or found["spec"]["training"]["uid"] != training.meta.uid:
            raise Changed(f"PolicyVersion {name} is taken") from None
        version = found
    except (Invalid, Denied) as error:
        raise _refused(manifest, error) from error
    met = all(v.met for v in record.verdicts)
    unmet = reasons.KEPT if training.spec.on_unmet is OnUnmet.KEEP else reasons.EXIT_CRITERIA_UNMET
    old = skew.read(PolicyVersionStatus, version.get("status") or {})
    conditions = set_condition(
        old.conditions,
        COND_ACCEPTED,
        "True" if met else "False",
        reasons.EXIT_CRITERIA_MET if met else unmet,
        summary(record.verdicts),
        now=status.finished_at or datetime.fromisoformat(version["metadata"]["creationTimestamp"]),
        generation=version["metadata"].get("generation"),
    )
    new = old.model_copy(update={"conditions": list(conditions)})
    written = skew.carried(version.get("status"), new)
    await ctx.kube.patch_status("PolicyVersion", version, written)
