"""Bring one PolicyDeployment closer to what it says: observe, decide, apply, write status."""

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from policy_api import reasons, skew
from policy_api.base import rfc3339
from policy_api.keys import KIND_DEPLOYMENT
from policy_api.v1alpha1.deployment import PolicyDeploymentStatus
from policy_api.v1alpha1.version import PolicyVersionStatus, version_name

from policy_operator import ownership
from policy_operator.children import Foreign, owned
from policy_operator.context import Context
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import ApiError, Conflict, Invalid, NotFound
from policy_operator.machinery.events import Event
from policy_operator.machinery.locks import Locks
from policy_operator.machinery.queue import Key
from policy_operator.monitoring.types import Signal
from policy_operator.registry.record import recorded
from policy_operator.registry.types import RecordServing
from policy_operator.rollout import rehearsal, routes
from policy_operator.rollout.decide import decide
from policy_operator.rollout.manifests import server_name
from policy_operator.rollout.observe import observe
from policy_operator.rollout.seen import Seen
from policy_operator.rollout.state import Verdict
from policy_operator.rollout.summary import unable
from policy_operator.rollout.types import (
    SERVER_KINDS,
    SHARED_KINDS,
    Action,
    ApplyRoute,
    ApplyRules,
    ApplyServer,
    ApplyServing,
    ApplyShared,
    Decision,
    DeleteObject,
    DeleteServer,
    Observed,
    PolicyDeployment,
)

log = logging.getLogger(__name__)

# What a user must change: a bad field (e.g. in server.resources), a quota, a missing permission.
_REFUSED = (400, 403, 422)
_NEEDS = (
    "PolicyTraining",
    "PolicyDeployment",
    "PolicyVersion",
    "Deployment",
    "Service",
    "EndpointSlice",
    "Pod",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "ConfigMap",
    "HTTPRoute",
    "PrometheusRule",
    *SHARED_KINDS,
)
_LOOK_AGAIN = timedelta(seconds=15)
# The world may be other than the cache said; after this many decisions, back off.
_ROUNDS = 5
_locks = Locks()


async def reconcile(
    key: Key,
    ctx: Context,
    now: datetime,
    signals: tuple[Signal, ...] = (),
    returned: asyncio.Event | None = None,
) -> datetime | None:
    """Make one decision and carry it out.

    Args:
        key: The PolicyDeployment.
        ctx: The operator's parts.
        now: The time.
        signals: Alerts that the webhook brings: they are acted on before this returns.
        returned: Set as soon as traffic that a rollback returns is returned, for good: the weights
            and the reason are written, and what is left to do can be read off them.

    Returns:
        When to look again, if time alone may change something.

    Raises:
        ApiError, OSError, TimeoutError: a write failed; what was written so far is kept, and the
            next call goes on from there.
    """
    async with _locks.hold(key):
        for _ in range(_ROUNDS):
            obj = ctx.cache.get(KIND_DEPLOYMENT, key.namespace, key.name)
            if obj is None or obj["metadata"].get("deletionTimestamp"):
                await _forget(key, ctx, now)
                ctx.queue.forget(key)
                return None
            why = ctx.unreadable(key.namespace, *_NEEDS)
            try:
                # An alert is acted on by what we know: the route is written all the same.
                if why is not None and not signals:
                    verdict = Verdict(False, reasons.PERMISSION_MISSING, why)
                    await _say(verdict, obj, PolicyDeployment.parse(obj), ctx, now)
                    return now + _LOOK_AGAIN
                return await _reconcile(obj, ctx, now, signals, returned)
            except Conflict as conflict:
                log.info("%s; deciding again", conflict)
    raise TimeoutError(f"nothing could be settled in {_ROUNDS} rounds")


async def _reconcile(
    obj: Obj,
    ctx: Context,
    now: datetime,
    signals: tuple[Signal, ...],
    returned: asyncio.Event | None,
) -> datetime | None:
    pdep = PolicyDeployment.parse(obj)
    foreign: tuple[Foreign, ...] = ()
    while True:
        observed = await observe(ctx, pdep, now, signals, foreign)
        decision, seen = await _decide(pdep, observed, ctx, now)
        try:
            failure = await _carry_out(decision, seen, obj, ctx, now=now, returned=returned)
        except ownership.Taken as taken:
            if observed.taken(taken.foreign.kind, taken.foreign.name) is not None:
                raise  # it was known and written all the same
            # The API server alone knows: decide again, now that we do too.
            foreign = (*foreign, taken.foreign)
        else:
            break
    if not await _write_status(decision.status, obj, pdep, ctx):
        return None  # deleted meanwhile; the watch says so and what is left is forgotten
    for event in decision.events:
        ctx.events.emit(obj, event)
    if failure is not None:
        raise failure
    if decision.status.state == "WaitingForMonitoring":
        ctx.monitor.hurry()
    return decision.next_check_at


async def _decide(
    pdep: PolicyDeployment, observed: Observed, ctx: Context, now: datetime
) -> tuple[Decision, Seen]:
    """Decide; again, where the API server says that it would not take the servers' pods."""
    decision = decide(pdep, observed, now)
    seen = Seen.of(pdep.meta.uid, ctx.cache, decision.actions)
    refused = await rehearsal.refusal(pdep, decision.actions, seen, ctx)
    if refused is None:
        return decision, seen
    decision = decide(pdep, replace(observed, refused=refused), now)
    return decision, Seen.of(pdep.meta.uid, ctx.cache, decision.actions)


async def _carry_out(
    decision: Decision,
    seen: Seen,
    obj: Obj,
    ctx: Context,
    *,
    now: datetime,
    returned: asyncio.Event | None,
) -> ApiError | None:
    """Carry the actions out in their order.

    Returns:
        What failed after a rollback's weights were written; the status is written nevertheless.

    Raises:
        Taken: an object of a child's name is somebody else's.
        ApiError, OSError, TimeoutError: an action failed.
    """
    pdep = PolicyDeployment.parse(obj)
    failure: ApiError | None = None
    final = False
    for action in decision.actions:
        try:
            await _apply(action, pdep, ctx, now, seen)
        except ownership.Taken:
            raise
        except ApiError as error:
            if not final:
                await _tell(error, obj, pdep, ctx, now)
                raise
            # A rollback is written down even if, say, another server's new fields are refused.
            failure = failure or error
        if isinstance(action, ApplyRoute) and action.final:
            final = True
            if returned is not None:
                returned.set()
    return failure


async def _tell(
    error: ApiError, obj: Obj, pdep: PolicyDeployment, ctx: Context, now: datetime
) -> None:
    """Tell the user of a refusal that only a person can do something about."""
    if error.status not in _REFUSED and not isinstance(error, Invalid):
        return
    verdict = Verdict(False, reasons.APPLY_FAILED, f"the API server refuses: {error.message}")
    await _say(verdict, obj, pdep, ctx, now)


async def _say(
    verdict: Verdict, obj: Obj, pdep: PolicyDeployment, ctx: Context, now: datetime
) -> None:
    """Write why nothing can be done, once, and tell it."""
    status = unable(pdep, verdict, now)
    if status.to_wire() != pdep.status.to_wire():
        await _write_status(status, obj, pdep, ctx)
        ctx.events.emit(obj, Event("Warning", verdict.reason, verdict.message))


async def _write_status(
    status: PolicyDeploymentStatus, obj: Obj, pdep: PolicyDeployment, ctx: Context
) -> bool:
    """Write the status if it differs; say whether the object is still there."""
    if status.to_wire() == pdep.status.to_wire():
        return True
    new = skew.carried(obj.get("status"), status)
    try:
        await ctx.kube.patch_status(KIND_DEPLOYMENT, obj, new)
    except NotFound:
        return False
    return True


async def _apply(
    action: Action, pdep: PolicyDeployment, ctx: Context, now: datetime, seen: Seen
) -> None:
    """Carry one action out; each may be done again at no harm."""
    namespace, name = pdep.meta.namespace, pdep.meta.name
    match action:
        case ApplyServer():
            for manifest in action.manifests:
                await seen.write(manifest, ctx)
        case ApplyRoute():
            await seen.write(action.manifest, ctx)
            split = routes.split_of(name, action.manifest)
            weights = (f"{server_name(name, b.version)} {b.weight}" for b in split)
            log.info("weights: %s", ", ".join(weights))
        case ApplyRules() | ApplyServing() | ApplyShared():
            await seen.write(action.manifest, ctx)
        case RecordServing():
            await _record(action, pdep.spec.policy, Key(KIND_DEPLOYMENT, namespace, name), ctx, now)
        case DeleteServer():
            child = server_name(name, action.version)
            for kind in SERVER_KINDS:
                await _delete(kind, child, pdep, ctx)
        case DeleteObject():
            await _delete(action.kind, action.name, pdep, ctx)
        case _:
            assert_never(action)


async def _delete(kind: str, name: str, pdep: PolicyDeployment, ctx: Context) -> None:
    """Delete a child, if it is ours: that very object, not a later one of its name."""
    child = ctx.cache.get(kind, pdep.meta.namespace, name)
    if child is not None and owned(child, pdep.meta.uid):
        await ctx.kube.delete(kind, pdep.meta.namespace, name, uid=child["metadata"]["uid"])


async def _record(
    action: RecordServing, policy: str, key: Key, ctx: Context, now: datetime
) -> None:
    """Write on the PolicyVersion; deployments of one policy take turns."""
    name = version_name(policy, action.version)
    async with _locks.hold(("PolicyVersion", key.namespace, name)):
        obj = ctx.cache.get("PolicyVersion", key.namespace, name)
        if obj is None:
            return  # deleted meanwhile: nothing to record on
        status = skew.read(PolicyVersionStatus, obj.get("status") or {})
        told = recorded(status, action, key.name, now)
        if told.to_wire() == status.to_wire():
            return
        new = skew.carried(obj.get("status"), told)
        try:
            await ctx.kube.patch_status("PolicyVersion", obj, new)
        except NotFound:
            log.info("%s was deleted at %s, nothing is recorded on it", name, rfc3339(now))


async def _forget(key: Key, ctx: Context, now: datetime) -> None:
    """Take a deleted deployment out of the versions that it served; its children are collected."""
    for obj in ctx.cache.list("PolicyVersion", key.namespace):
        serving = (obj.get("status") or {}).get("serving") or ()
        if any(s["deployment"] == key.name for s in serving):
            spec = obj["spec"]
            action = RecordServing(int(spec["version"]), None)
            await _record(action, spec["policy"], key, ctx, now)
