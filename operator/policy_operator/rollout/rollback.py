"""What sends traffic back: an alert, a person's word, a rejection elsewhere."""

from dataclasses import replace
from datetime import datetime

from policy_api import reasons
from policy_api.base import Condition
from policy_api.keys import ANNOTATION_ABORT, ANNOTATION_RETRY, COND_REJECTED
from policy_api.v1alpha1.deployment import AlertStatus, GivenUpStatus, StableStatus

from policy_operator.rollout.state import RolloutState, Verdict
from policy_operator.rollout.types import Observed, PolicyDeployment, RollbackRecord

_REASON_LIMIT = 1000  # characters of an alert's sentence that are kept


def _about(alert: AlertStatus, version: int, since: datetime | None) -> bool:
    """Whether a firing alert is about a version.

    One with a label `version` is about that version; one without is about the version that took
    traffic last, if it began to fire after that.
    """
    if alert.state != "Firing":
        return False
    if alert.version is not None:
        return alert.version == version
    return since is not None and alert.since >= since


def _sentence(observed: Observed, alert: AlertStatus) -> str:
    """Say which alert fires, in its own words where they are known."""
    signals = (*observed.signals, *observed.monitoring.signals)
    own = next(
        (
            s.message
            for s in signals
            if (s.name, s.version) == (alert.name, alert.version) and s.message
        ),
        "",
    )
    return f"alert {alert.name} fired{f': {own}' if own else ''}"[:_REASON_LIMIT]


def _rejection(record: RollbackRecord, name: str) -> Condition:
    return Condition(
        type=COND_REJECTED,
        status="True",
        last_transition_time=record.at,
        reason=record.alert,
        message=f"rolled back in PolicyDeployment {name}: {record.message}",
    )


def _reject(state: RolloutState, record: RollbackRecord, name: str) -> RolloutState:
    """Record the rejection here, on the version, and in the route's own write."""
    state = state.reject(record.version, record.message, record.at)
    return replace(
        state,
        rollback=record,
        rejections={**state.rejections, record.version: _rejection(record, name)},
    )


def roll_back_candidate(
    pdep: PolicyDeployment, state: RolloutState, record: RollbackRecord
) -> RolloutState:
    """Return all traffic to stable and reject the candidate."""
    assert state.stable is not None
    state = _reject(state, record, pdep.meta.name).return_traffic()
    assert state.stable is not None
    return state.note(
        record.version,
        reasons.ROLLED_BACK,
        f"v{record.version} rolled back to v{state.stable.version}: {record.message}",
        warning=True,
    )


def roll_back_stable(
    pdep: PolicyDeployment, state: RolloutState, record: RollbackRecord
) -> RolloutState:
    """Return all traffic to the version before and reject the promoted one.

    A candidate that was under way loses its traffic too, without blame: it starts anew, compared
    with the version that then serves.
    """
    assert state.previous is not None
    back = state.previous.version
    if state.candidate is not None:
        state = state.return_traffic()
    state = _reject(state, record, pdep.meta.name).retire(record.version)
    state = replace(
        state,
        stable=StableStatus(version=back, weight=100, since=state.second),
        previous=None,
        urgent=True,
    )
    return state.note(
        record.version,
        reasons.ROLLED_BACK,
        f"v{record.version} rolled back to v{back}: {record.message}",
        warning=True,
    )


def finish(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> RolloutState:
    """Finish a rollback whose weights were written by an operator that died before its status."""
    record = observed.route.rollback if observed.route is not None else None
    if record is None:
        return state
    candidate, stable = state.candidate, state.stable
    if (
        stable is not None
        and candidate is not None
        and (candidate.version, candidate.started_at) == (record.version, record.since)
    ):
        return roll_back_candidate(pdep, _recall(state, record), record)
    if (
        stable is not None
        and state.previous is not None
        and (stable.version, stable.since) == (record.version, record.since)
    ):
        return roll_back_stable(pdep, _recall(state, record), record)
    return state


def _recall(state: RolloutState, record: RollbackRecord) -> RolloutState:
    """Note the alert in the status: its sender was answered and will not tell of it again."""
    if any(a.name == record.alert and a.version in (None, record.version) for a in state.alerts):
        return state
    alert = AlertStatus(name=record.alert, state="Firing", version=record.version, since=record.at)
    known = (*state.alerts, alert)
    return replace(state, alerts=tuple(sorted(known, key=lambda a: (a.name, a.version or 0))))


def _ready(observed: Observed, version: int) -> bool:
    server = observed.servers.get(version)
    return server is not None and server.endpoints > 0


def _judge_candidate(
    pdep: PolicyDeployment, observed: Observed, state: RolloutState
) -> RolloutState | None:
    """Roll the candidate back, or halt; None when no alert is about it."""
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return None
    fired = next(
        (a for a in state.alerts if _about(a, candidate.version, candidate.traffic_since)), None
    )
    if fired is None:
        return None
    # Going back on to a version that is no better helps nobody: halt, and call a person.
    why = None
    if any(a.state == "Firing" and a.version == stable.version for a in state.alerts):
        why = f"an alert about the stable v{stable.version} fires too"
    elif not _ready(observed, stable.version):
        why = f"the stable v{stable.version} has no ready endpoint"
    if why is not None:
        message = f"{_sentence(observed, fired)}, but {why}: weights stay as they are"
        state = replace(state, degraded=Verdict(True, reasons.STABLE_UNHEALTHY, message))
        return state.say(False, reasons.HALTED, message)
    record = RollbackRecord(
        version=candidate.version,
        since=candidate.started_at,
        alert=fired.name,
        message=_sentence(observed, fired),
        at=state.second,
    )
    return roll_back_candidate(pdep, state, record)


def _judge_stable(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> RolloutState:
    """Roll a watched promotion back, or say that the stable version is unwell."""
    stable, previous = state.stable, state.previous
    if stable is None:
        return state
    # With a candidate that takes traffic, an alert without a version is the candidate's; one that
    # has sent a version back already is not the next one's as well.
    loaded = state.candidate is not None and state.candidate.weight > 0
    last = max((r.at for r in state.rejected), default=None)
    fired = next(
        (
            a
            for a in state.alerts
            if _about(a, stable.version, stable.since)
            and (a.version is not None or not (loaded or (last is not None and a.since <= last)))
        ),
        None,
    )
    if fired is None:
        return state
    if previous is not None and state.now < previous.until and _ready(observed, previous.version):
        record = RollbackRecord(
            version=stable.version,
            since=stable.since,
            alert=fired.name,
            message=_sentence(observed, fired),
            at=state.second,
        )
        return roll_back_stable(pdep, state, record)
    what = (
        "there is no version to roll back to"
        if previous is None
        else f"v{previous.version} has no ready endpoint to roll back to"
    )
    message = f"{_sentence(observed, fired)} (stable v{stable.version}); {what}"
    return replace(state, degraded=Verdict(True, reasons.ALERT_FIRING, message))


def by_alert(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> RolloutState:
    """Act on the alerts that fire."""
    judged = _judge_candidate(pdep, observed, state)
    return judged if judged is not None else _judge_stable(pdep, observed, state)


def give_up(state: RolloutState, reason: str, message: str) -> RolloutState:
    """Take the candidate back without rejecting it: a new target or a retry ends that."""
    assert state.candidate is not None
    version = state.candidate.version
    state = replace(
        state.return_traffic(),
        given_up=GivenUpStatus(version=version, reason=reason, message=message, at=state.second),
    )
    return state.note(version, reason, message, warning=True).say(False, reason, message)


def by_person(pdep: PolicyDeployment, state: RolloutState, target: int | None) -> RolloutState:
    """Act on the annotations abort and retry, each value once.

    The value is remembered, not removed: a GitOps tool would put it back.
    """
    abort = pdep.meta.annotations.get(ANNOTATION_ABORT) or None
    retry = pdep.meta.annotations.get(ANNOTATION_RETRY) or None
    if retry != state.handled.retry:
        state = _retry(state, retry, target)
    if abort != state.handled.abort:
        state = replace(state, handled=state.handled.model_copy(update={"abort": abort}))
        if abort is not None:
            state = _abort(state, target)
    return state


def _abort(state: RolloutState, target: int | None) -> RolloutState:
    if state.candidate is not None:
        version = state.candidate.version
        return give_up(
            state,
            reasons.ABORTED,
            f"v{version} was aborted by {ANNOTATION_ABORT}; set another target, "
            f"or {ANNOTATION_RETRY}: {version}",
        )
    if target is None or (state.stable is not None and state.stable.version == target):
        return state  # nothing is being rolled out
    message = f"v{target} was aborted by {ANNOTATION_ABORT} before it started"
    entry = GivenUpStatus(version=target, reason=reasons.ABORTED, message=message, at=state.second)
    return replace(state, given_up=entry).note(target, reasons.ABORTED, message, warning=True)


def _retry(state: RolloutState, retry: str | None, target: int | None) -> RolloutState:
    if retry is None:
        return replace(state, handled=state.handled.model_copy(update={"retry": None}))
    if target is None or retry != str(target):
        return state  # not (yet) about the target
    return replace(
        state,
        handled=state.handled.model_copy(update={"retry": retry}),
        rejected=tuple(r for r in state.rejected if r.version != target),
        given_up=None if state.given_up and state.given_up.version == target else state.given_up,
        retried=target,
    )
