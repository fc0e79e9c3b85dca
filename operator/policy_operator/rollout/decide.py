"""What to do about a PolicyDeployment: pure, from what it says, what there is, and the time.

The order of the rules is the order of their weight: what sends traffic back comes before what
moves it on, and when traffic leaves a version nothing else is decided in the same breath.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from policy_api import reasons, skew
from policy_api.base import Condition
from policy_api.keys import COND_REJECTED
from policy_api.rules.pod_template import TemplateError
from policy_api.v1alpha1.deployment import StableStatus

from policy_operator.children import stamp_of
from policy_operator.machinery.cache import Obj
from policy_operator.rollout import alerts, conflicts, rollback, rules, servers, steps
from policy_operator.rollout.plan import plan
from policy_operator.rollout.state import RolloutState, Verdict
from policy_operator.rollout.summary import blocked_event, degraded_event, summarize
from policy_operator.rollout.target import Target, resolve
from policy_operator.rollout.types import Decision, InvalidServerError, Observed, PolicyDeployment

# What the API server refuses without a rule of its own, it may take later.
LOOK_AGAIN = timedelta(minutes=1)


def decide(pdep: PolicyDeployment, observed: Observed, now: datetime) -> Decision:
    """Return the new status and what has to be written so that it is true.

    Args:
        pdep: The resource with the status that was written last.
        observed: Its children, the versions, the alerts.
        now: The time, with its zone.
    """
    state = RolloutState.of(pdep.status, now)
    if (wrong := _hopeless(observed)) is not None:
        status = summarize(pdep, observed, replace(state, progressing=wrong))
        return Decision(status=status, next_check_at=now + timedelta(minutes=1))
    manifests, invalid = _manifests(pdep, observed)
    stamps = {v: stamp_of(m[0]) or "" for v, m in manifests.items()}
    state = judge(pdep, observed, state, stamps, invalid)
    state = conflicts.tell(pdep, observed, state)
    status = summarize(pdep, observed, state)
    return Decision(
        status=status,
        actions=plan(pdep, observed, state, status, manifests),
        next_check_at=_next_check(state),
        events=(*state.events, *degraded_event(pdep, status), *blocked_event(pdep, status)),
    )


def _hopeless(observed: Observed) -> Verdict | None:
    """Say why nothing at all can be done, if so."""
    if not observed.gateway_api:
        return Verdict(
            False,
            reasons.GATEWAY_API_MISSING,
            "the cluster has no HTTPRoutes: install the Gateway API (v1) and a controller for it",
        )
    return None


def judge(
    pdep: PolicyDeployment,
    observed: Observed,
    state: RolloutState,
    stamps: Mapping[int, str],
    invalid: str | None = None,
) -> RolloutState:
    """Apply the rules of the rollout, one after the other.

    Args:
        pdep: The resource.
        observed: Its children.
        state: What the status says.
        stamps: Checksum of each version's server as it should be.
        invalid: What is wrong with spec.server; then only traffic that goes back is moved.
    """
    _, rules_stamp = rules.group(pdep)
    state = replace(
        state,
        alerts=alerts.merge(
            state.alerts,
            [a.name for a in pdep.spec.alerts],
            observed.monitoring,
            observed.signals,
        ),
    )
    state = rollback.finish(pdep, observed, state)
    if not state.urgent:
        state = rollback.by_alert(pdep, observed, state)
    if state.urgent:
        return state.say(True, reasons.ROLLING_BACK, state.history[-1].message)
    halted = state.progressing
    state = _expire(state)
    state = rollback.by_person(pdep, state, resolve(pdep, observed, (), None).version)
    state = _lift(observed, state)
    if state.urgent or halted is not None:
        return state if state.urgent else replace(state, progressing=halted)
    if pdep.unknown is not None:
        return state.say(False, reasons.UNKNOWN_FIELD, skew.waits(pdep.unknown))
    if invalid is not None:
        state = state.say(False, reasons.SERVER_INVALID, invalid)
        # A policy or a webhook may take it later; nothing tells when.
        again = observed.refused is not None
        return state.check_at(state.now + LOOK_AGAIN) if again else state
    return _pursue(pdep, observed, state, stamps, rules_stamp)


def _pursue(  # noqa: PLR0911 - each return is one rule
    pdep: PolicyDeployment,
    observed: Observed,
    state: RolloutState,
    stamps: Mapping[int, str],
    rules_stamp: str,
) -> RolloutState:
    """Bring what serves closer to the target."""
    if (dropped := _rejected_elsewhere(observed, state)) is not None:
        return dropped
    target = resolve(pdep, observed, state.rejected, state.retried)
    if state.given_up is not None and target.version not in (None, state.given_up.version):
        state = replace(state, given_up=None)
    if target.refused is not None or target.version is None:
        return _refuse(observed, state, target)
    version = target.version
    candidate, stable, previous = state.candidate, state.stable, state.previous
    if state.given_up is not None:
        return state.say(False, state.given_up.reason, state.given_up.message)
    if candidate is not None and candidate.version != version:
        message = f"v{candidate.version} gives way: the target is v{version} now"
        return (
            state.return_traffic()
            .note(candidate.version, reasons.REPLACED, message)
            .say(True, reasons.ROLLING_BACK, message)
        )
    if stable is not None and stable.version == version:
        return state.say(False, reasons.PROMOTED, f"v{version} serves all traffic")
    if previous is not None and previous.version == version:
        return _revert(observed, state, version)
    if candidate is None:
        return steps.start(state, version)
    return steps.progress(pdep, observed, state, stamps, rules_stamp)


def _refuse(observed: Observed, state: RolloutState, target: Target) -> RolloutState:
    """Say why the target can't be rolled out; traffic stays as it is."""
    reason = target.refused or reasons.TARGET_NOT_FOUND
    settled = observed.route is None or observed.route.programmed
    if reason == reasons.ROLLED_BACK and not settled:
        return state.say(True, reasons.ROLLING_BACK, target.message)
    return state.say(target.waiting, reason, target.message)


def _rejected_elsewhere(observed: Observed, state: RolloutState) -> RolloutState | None:
    """Drop a candidate that production rejected in another deployment meanwhile."""
    candidate = state.candidate
    if candidate is None or state.stable is None or candidate.version == state.retried:
        return None
    record = observed.versions.get(candidate.version)
    if record is None or record.rejected is None:
        return None
    message = f"v{candidate.version} was rejected meanwhile: {record.rejected.message}"
    return (
        state.return_traffic()
        .note(candidate.version, reasons.ROLLED_BACK, message, warning=True)
        .say(True, reasons.ROLLING_BACK, message)
    )


def _revert(observed: Observed, state: RolloutState, version: int) -> RolloutState:
    """Go back at once to the version before, which still runs: a person chose it as the target."""
    server = observed.servers.get(version)
    if server is None or server.endpoints == 0 or state.stable is None:
        return state.say(True, reasons.WAITING_FOR_SERVER, f"v{version} has no ready endpoint")
    left = state.stable.version
    state = replace(
        state.retire(left),
        stable=StableStatus(version=version, weight=steps.FULL, since=state.second),
        previous=None,
    )
    message = f"v{version} serves again instead of v{left}: it is the target"
    return state.note(left, reasons.ROLLED_BACK, message).say(False, reasons.PROMOTED, message)


def _lift(observed: Observed, state: RolloutState) -> RolloutState:
    """Lift a version's rejection when a person asked to try it again."""
    if state.retried is None:
        return state
    version = state.retried
    record = observed.versions.get(version)
    if record is not None and record.rejected is not None:
        condition = Condition(
            type=COND_REJECTED,
            status="False",
            last_transition_time=state.second,
            reason=reasons.RETRIED,
            message=f"a person asked to try v{version} again",
        )
        state = replace(state, rejections={**state.rejections, version: condition})
    return state


def _expire(state: RolloutState) -> RolloutState:
    """Let go of versions whose time is over, and be back when the next one's is."""
    until = state.previous.until if state.previous is not None else None
    if until is not None:
        watched = state.now < until
        state = state.check_at(until) if watched else replace(state, previous=None)
    kept = tuple(r for r in state.retiring if state.now < r.until)
    for retiring in kept:
        state = state.check_at(retiring.until)
    return replace(state, retiring=kept)


def _manifests(
    pdep: PolicyDeployment, observed: Observed
) -> tuple[dict[int, tuple[Obj, ...]], str | None]:
    """Return the server of each version that runs or may be started by this decision.

    With a spec.server that can't be there are none, and the sentence says why: all servers stay as
    they are.
    """
    if observed.refused is not None:
        return {}, f"the API server refuses these pods: {observed.refused}"
    status = pdep.status
    roles = (status.stable, status.candidate, status.previous)
    wanted = {r.version for r in roles if r is not None}
    wanted.add(resolve(pdep, observed, (), None).version or 0)
    idle = status.previous.version if status.previous is not None else None
    try:
        return {
            version: servers.build(
                pdep,
                observed.versions[version],
                observed.server_image,
                observed.servers.get(version),
                frozen=version == idle,
            )
            for version in sorted(wanted & set(observed.versions))
        }, None
    except (TemplateError, InvalidServerError) as error:
        return {}, str(error)


def _next_check(state: RolloutState) -> datetime | None:
    """Return when time alone may change the decision; soon after a change that must go on."""
    soon = state.now + timedelta(seconds=1)
    if state.urgent:
        return soon
    return max(soon, min(state.checks)) if state.checks else None
