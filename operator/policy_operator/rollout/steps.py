"""A candidate's way to promotion: wait until it is ready, raise its weight, hold, go on.

All clocks start at times that are in the status, so a hold or a deadline survives a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from policy_api import reasons
from policy_api.v1alpha1.deployment import CandidateStatus, PreviousStatus, StableStatus, Step

from policy_operator.rollout import conflicts, scaling
from policy_operator.rollout.rollback import give_up
from policy_operator.rollout.state import RolloutState
from policy_operator.rollout.types import DRAIN_SECONDS, Observed, PolicyDeployment

FULL = 100  # percent
PROMOTE = "promote"  # name of the step that is added where the last one is below FULL


@dataclass(frozen=True)
class Readiness:
    """Whether a version can take (more) traffic, and if not, why."""

    ready: bool
    reason: str = ""
    message: str = ""


def effective_steps(pdep: PolicyDeployment, *, first: bool) -> tuple[Step, ...]:
    """Return the steps up to full weight; the first version of all has nothing to be tried on."""
    steps = () if first else tuple(pdep.spec.rollout.steps)
    if steps and steps[-1].weight == FULL:
        return steps
    return (*steps, Step(name=PROMOTE, weight=FULL, hold_seconds=0))


def readiness(
    pdep: PolicyDeployment, observed: Observed, version: int, stamps: Mapping[int, str]
) -> Readiness:
    """Judge whether the version's endpoints are ready at the gateway.

    Args:
        pdep: The resource.
        observed: Its children.
        version: The version.
        stamps: Checksum of each version's server as it should be.
    """
    if taken := conflicts.of_candidate(pdep, observed, version):
        return Readiness(False, reasons.NAME_CONFLICT, conflicts.sentence(taken))
    wanted = scaling.fewest(pdep)
    server = observed.servers.get(version)
    if server is None or server.applied is None or server.applied != stamps.get(version):
        return Readiness(
            False, reasons.WAITING_FOR_SERVER, f"the pods of v{version} are being created"
        )
    ready = min(server.available, server.endpoints)
    if ready < wanted:
        trouble = f": {server.trouble}" if server.trouble else ""
        return Readiness(
            False,
            reasons.WAITING_FOR_SERVER,
            f"{ready} of {wanted} pods of v{version} are ready{trouble}",
        )
    route = observed.route
    if route is None or route.weight(version) is None or not route.programmed:
        trouble = f": {route.trouble}" if route is not None and route.trouble else ""
        return Readiness(
            False, reasons.WAITING_FOR_ROUTE, f"the gateway has not taken v{version} up{trouble}"
        )
    return Readiness(True)


def blind(pdep: PolicyDeployment, observed: Observed, rules: str) -> str | None:
    """Say why the candidate's alerts could not fire; None when they can."""
    if not pdep.spec.alerts:
        return None
    if not observed.monitoring.available:
        return observed.monitoring.message or observed.monitoring.reason
    if observed.monitoring.rules_error:
        return f"an alert rule can't be evaluated: {observed.monitoring.rules_error}"
    if observed.monitoring.rules != rules:
        return "Prometheus has not loaded this deployment's alert rules"
    return None


def start(state: RolloutState, version: int) -> RolloutState:
    """Make the version the candidate; it has no traffic yet."""
    candidate = CandidateStatus(
        version=version, weight=0, step_index=-1, started_at=state.second, step_name=None
    )
    against = f" against v{state.stable.version}" if state.stable is not None else ""
    state = replace(
        state,
        candidate=candidate,
        retiring=tuple(r for r in state.retiring if r.version != version),
        given_up=None,
    )
    return state.note(version, reasons.STARTED, f"v{version} is being rolled out{against}").say(
        True, reasons.WAITING_FOR_SERVER, f"the pods of v{version} are being created"
    )


def _set_weight(state: RolloutState, **update: object) -> RolloutState:
    assert state.candidate is not None
    candidate = state.candidate.model_copy(update=update)
    stable = state.stable
    if stable is not None:
        stable = stable.model_copy(update={"weight": FULL - candidate.weight})
    return replace(state, candidate=candidate, stable=stable)


def _hold_until(step: Step, started: datetime) -> datetime:
    """Return the end of the hold; a start is stored as a whole second, so one is added."""
    return started + timedelta(seconds=step.hold_seconds + (1 if step.hold_seconds else 0))


def _say_step(state: RolloutState, step: Step, until: datetime) -> RolloutState:
    assert state.candidate is not None
    version = state.candidate.version
    reason = reasons.PROMOTING if step.weight == FULL else reasons.CANARY
    message = f"v{version} takes {step.weight} % of the traffic (step {step.name})"
    return state.say(True, reason, message).check_at(until)


def _enter(state: RolloutState, steps: tuple[Step, ...], index: int) -> RolloutState:
    """Give the candidate the step's weight."""
    assert state.candidate is not None
    step, candidate = steps[index], state.candidate
    until = _hold_until(step, state.second)
    state = _set_weight(
        state,
        weight=step.weight,
        step_index=index,
        step_name=step.name,
        step_started_at=state.second,
        traffic_since=candidate.traffic_since or state.second,
        hold_until=until if step.hold_seconds else None,
    )
    state = _say_step(state, step, until)
    if step.name == PROMOTE and step.hold_seconds == 0:
        return state
    return state.note(
        candidate.version,
        reasons.STEP,
        f"v{candidate.version} takes {step.weight} % of the traffic (step {step.name}, "
        f"held {step.hold_seconds} s)",
    )


def _promote(pdep: PolicyDeployment, state: RolloutState) -> RolloutState:
    """Make the candidate the stable version; the one before stays ready while it is watched."""
    assert state.candidate is not None
    version, old, watch = (
        state.candidate.version,
        state.stable,
        pdep.spec.rollback.watch_after_promotion_seconds,
    )
    if state.previous is not None:
        state = state.retire(state.previous.version)
    state = replace(
        state,
        stable=StableStatus(version=version, weight=FULL, since=state.second),
        candidate=None,
        previous=None,
    )
    if old is not None and watch > DRAIN_SECONDS:
        until = state.second + timedelta(seconds=watch)
        state = replace(state, previous=PreviousStatus(version=old.version, until=until)).check_at(
            until
        )
    elif old is not None:
        state = state.retire(old.version)
    message = f"v{version} serves all traffic"
    return state.note(version, reasons.PROMOTED, message).say(False, reasons.PROMOTED, message)


def _not_ready(
    observed: Observed, state: RolloutState, why: Readiness, seconds: int, until: datetime
) -> RolloutState:
    """Wait, withdraw, or give up `seconds` after the step's hold."""
    assert state.candidate is not None
    candidate = state.candidate
    deadline = until + timedelta(seconds=seconds)
    taken = why.reason == reasons.NAME_CONFLICT  # no clock runs: it may take a person's time
    late = not taken and state.now >= deadline
    message = f"{why.message}; no progress for {seconds} s"
    if late and state.stable is not None:
        return give_up(state, reasons.PROGRESS_DEADLINE_EXCEEDED, message)
    if late:
        return state.say(False, reasons.PROGRESS_DEADLINE_EXCEEDED, message)
    if not taken:
        state = state.check_at(deadline)
    server = observed.servers.get(candidate.version)
    gone = server is None or server.endpoints == 0
    if gone and candidate.weight > 0 and state.stable is not None:
        # Part of the traffic goes nowhere: take it back, and begin anew once pods are ready.
        state = _set_weight(
            state,
            weight=0,
            step_index=-1,
            step_name=None,
            step_started_at=state.second,
            hold_until=None,
        )
        state = replace(state, urgent=True).note(
            candidate.version,
            reasons.WITHDRAWN,
            f"v{candidate.version} has no ready endpoint: its traffic returns until it has",
            warning=True,
        )
    return state.say(True, why.reason, why.message)


def _freed(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> bool:
    """Whether what only a person could mend is mended: the time until then is no lack of progress.

    A name was taken and is free, or spec.server could not be and can.
    """
    if pdep.status.state == reasons.NAME_CONFLICT:
        return not conflicts.every(pdep, observed, state)
    return pdep.status.state == reasons.SERVER_INVALID


def progress(  # noqa: PLR0911 - each return is one rule
    pdep: PolicyDeployment,
    observed: Observed,
    state: RolloutState,
    stamps: Mapping[int, str],
    rules: str,
) -> RolloutState:
    """Take the candidate one step further, if it is time and it is ready."""
    assert state.candidate is not None
    candidate, first = state.candidate, state.stable is None
    steps = effective_steps(pdep, first=first)
    index = candidate.step_index
    if index >= len(steps):  # the spec has fewer steps now
        index = len(steps) - 2
    current = steps[index] if index >= 0 else None
    began = candidate.step_started_at or candidate.started_at
    until = _hold_until(current, began) if current is not None else began
    seconds = pdep.spec.rollout.progress_deadline_seconds
    why = readiness(pdep, observed, candidate.version, stamps)
    if not why.ready:
        if _freed(pdep, observed, state):
            until = state.second
            candidate = candidate.model_copy(update={"step_started_at": until})
            state = replace(state, candidate=candidate)
        state = _not_ready(observed, state, why, seconds, until)
        taking = why.reason == reasons.WAITING_FOR_ROUTE and not (
            observed.route and observed.route.trouble
        )
        if taking and current is not None and state.candidate is not None:
            return _say_step(state, current, until)  # a moment: the gateway takes weights up
        return state
    if current is not None and current.weight != candidate.weight and index == candidate.step_index:
        return _enter(state, steps, index)  # the spec has another weight for this step now
    if current is not None and state.now < until:
        state = replace(
            state,
            candidate=candidate.model_copy(
                update={"hold_until": until if current.hold_seconds else None}
            ),
        )
        return _say_step(state, current, until)
    if candidate.weight == FULL:
        return _promote(pdep, state)
    unseen = None if first else blind(pdep, observed, rules)
    if unseen is not None:
        return state.say(
            True,
            reasons.WAITING_FOR_MONITORING,
            f"v{candidate.version} takes no more traffic: {unseen}",
        )
    return _enter(state, steps, index + 1)
