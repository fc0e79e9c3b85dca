"""How long an attempt is waited for: to start, to end, to go away. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.base import rfc3339
from policy_api.contract.report import Outcome
from policy_api.keys import COND_RUNNING
from policy_api.rules.conditions import get_condition
from policy_api.v1alpha1.training_status import Attempt

from policy_operator.training.status import TrainingState, finished
from policy_operator.training.types import AttemptView, End, Lingering, Observed, Silence, Stall

# A registry that is away for a moment, a Secret that is made a little later: the kubelet tries
# again within five minutes. A node, and all other nodes of the attempt, are held so long.
STALL_LIMIT = timedelta(minutes=10)
# A rank that has failed takes its peers with it; what they report may be the cause.
_SETTLE = timedelta(seconds=30)
# From the end of a pod's grace time; a kubelet that lives needs seconds.
_LINGER_LIMIT = timedelta(seconds=60)
# Until Events are asked for: pods are made at once, their volumes and images take a while.
_SILENCE = {"Job": timedelta(seconds=5), "Pod": timedelta(seconds=20)}
_ASK_AGAIN = timedelta(seconds=300)
_WAITS_FOR_OTHERS = {
    reasons.WAITING_FOR_BASE,
    reasons.WAITING_FOR_REFERENCE,
    reasons.SUSPENDED,
}


def judged(observed: Observed, known: Sequence[Attempt], now: datetime) -> Observed:
    """End the attempts whose time to start or to settle is over.

    Their Jobs still run. They are stopped once the status has the end, for what tells it goes with
    the pods.
    """
    since = {a.index: a.stalled_since for a in known}
    views = tuple(
        replace(v, end=end) if (end := _end(v, since.get(v.index), now)) is not None else v
        for v in observed.attempts
    )
    if views == observed.attempts:
        return observed
    return replace(observed, attempts=views, pods_left=True)


def _end(view: AttemptView, since: datetime | None, now: datetime) -> End | None:
    if view.end is not None or view.stopping:
        return None
    if view.failing is not None and now >= (view.failing.at or now) + _SETTLE:
        return view.failing
    stall = view.stall
    if stall is None:
        return None
    if stall.final:
        message = f"{stall.message}; no image has such a name: use a right spec.trainer.image"
        return End(Outcome.CONFIG_INVALID, message, now)
    if now >= (since or now) + STALL_LIMIT:
        minutes = STALL_LIMIT // timedelta(minutes=1)
        return End(stall.reason, f"{stall.message}; waited {minutes} minutes for it", now)
    return None


def stalled_since(view: AttemptView, old: Attempt | None, now: datetime) -> datetime | None:
    """Return since when a pod of the attempt can't start a container; the status keeps it."""
    if view.stall is None:
        return None
    return (old.stalled_since if old is not None else None) or now.replace(microsecond=0)


def look_again(observed: Observed, known: Sequence[Attempt], now: datetime) -> datetime | None:
    """Return when something of this module is due."""
    since = {a.index: a.stalled_since for a in known}
    times = [p.due + _LINGER_LIMIT for p in observed.lingering]
    for view in observed.attempts:
        if view.end is None and view.failing is not None and view.failing.at is not None:
            times.append(view.failing.at + _SETTLE)
        if view.end is None and view.stall is not None:
            times.append((since.get(view.index) or now) + STALL_LIMIT)
        if view.end is None and view.silence is not None:
            times.append(_ask_at(view.silence, now))
    return min((t for t in times if t > now), default=None)


def silent_for_long(silence: Silence, now: datetime) -> bool:
    """Whether Events are worth a call: a start takes a while, also a good one."""
    return now >= silence.since + _SILENCE[silence.kind]


def _ask_at(silence: Silence, now: datetime) -> datetime:
    """Return when to ask: first soon, then more and more seldom."""
    wait = _SILENCE[silence.kind]
    if now < silence.since + wait:
        return silence.since + wait
    return now + min(_ASK_AGAIN, max(wait, now - silence.since))


def told(view: AttemptView, note: str) -> AttemptView:
    """Return the attempt with the words of an Event about what it waits for."""
    silence = view.silence
    if silence is None:
        return view
    if silence.kind == "Job":
        message = f"pods of Job {silence.name} are refused: {note}"
        return replace(view, reason=reasons.REFUSED, message=message)
    message = f"pod {silence.name} does not start: {note}"
    # Without the ConfigMap of the attempt, which we make, no mount can succeed: not their fault.
    stall = Stall(reasons.CONTAINER_NOT_STARTED, message) if view.complete else None
    return replace(view, reason=reasons.CONTAINER_NOT_STARTED, message=message, stall=stall)


def say_what_is_stuck(state: TrainingState, pods: Sequence[Lingering]) -> TrainingState:
    """Say that a pod does not end, when that is what all else waits for."""
    status, sentence = state.status, _stuck(pods, state.now)
    if sentence is None or finished(status) or status.state in _WAITS_FOR_OTHERS:
        return state
    running = get_condition(status.conditions, COND_RUNNING)
    really = running is not None and running.status == "True"
    return state.running(reasons.POD_STUCK, sentence, really=really)


def _stuck(pods: Sequence[Lingering], now: datetime) -> str | None:
    """Say of a pod that should have ended long ago what a person can do."""
    late = min((p for p in pods if now >= p.due + _LINGER_LIMIT), key=lambda p: p.due, default=None)
    if late is None:
        return None
    node = f"its node {late.node}" if late.node else "its node"
    return (
        f"pod {late.name} should have ended at {rfc3339(late.due)} and has not, {node} may be "
        "lost; the training goes on when the pod is gone. If the node is gone for good: "
        f"kubectl delete pod {late.name} --force --grace-period=0"
    )
