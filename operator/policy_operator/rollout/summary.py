"""The status that users see: conditions, state, and the parts that the rules decided."""

from dataclasses import replace
from datetime import datetime

from policy_api import reasons
from policy_api.keys import COND_DEGRADED, COND_MONITORING, COND_PROGRESSING, COND_READY
from policy_api.rules.conditions import Status, get_condition, set_condition
from policy_api.v1alpha1.deployment import HandledAnnotations, PolicyDeploymentStatus

from policy_operator.machinery.events import Event
from policy_operator.rollout import conflicts, rules
from policy_operator.rollout.state import RolloutState, Verdict
from policy_operator.rollout.types import Observed, PolicyDeployment


def _ready(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> Verdict:
    """Whether the stable version answers behind the route."""
    if state.stable is None:
        return Verdict(False, reasons.NO_STABLE_VERSION, "no version serves yet")
    version = state.stable.version
    server = observed.servers.get(version)
    if server is None or server.endpoints == 0:
        if taken := conflicts.of_server(pdep, observed, version):
            return Verdict(False, reasons.NO_ENDPOINTS, conflicts.sentence(taken))
        trouble = f": {server.trouble}" if server is not None and server.trouble else ""
        return Verdict(False, reasons.NO_ENDPOINTS, f"v{version} has no ready endpoint{trouble}")
    if taken := conflicts.of_route(pdep, observed):
        return Verdict(False, reasons.ROUTE_NOT_ACCEPTED, conflicts.sentence(taken))
    route = observed.route
    if route is None or not route.accepted:
        trouble = route.trouble if route is not None else "it is being created"
        return Verdict(
            False, reasons.ROUTE_NOT_ACCEPTED, f"the HTTPRoute is not accepted: {trouble}"
        )
    return Verdict(True, reasons.SERVING, f"v{version} serves")


def _monitoring(pdep: PolicyDeployment, observed: Observed) -> Verdict:
    """Whether alerts about this deployment could fire and would be heard of."""
    monitoring = observed.monitoring
    if not monitoring.available:
        return Verdict(False, monitoring.reason, monitoring.message)
    late = f"; alerts arrive late, by asking only: {monitoring.message}" * bool(monitoring.message)
    if not pdep.spec.alerts:
        return Verdict(True, reasons.REACHABLE, "Prometheus answers; spec.alerts is empty")
    if taken := conflicts.of_rules(pdep, observed):
        return Verdict(False, reasons.RULES_NOT_LOADED, conflicts.sentence(taken))
    name = rules.group_name(pdep.meta.namespace, pdep.meta.name)
    if monitoring.rules_error:
        return Verdict(False, reasons.RULES_FAILING, f"rule group {name}: {monitoring.rules_error}")
    if monitoring.rules != rules.group(pdep)[1]:
        return Verdict(
            False, reasons.RULES_NOT_LOADED, f"Prometheus has not loaded rule group {name}"
        )
    return Verdict(True, reasons.RULES_LOADED, f"Prometheus evaluates rule group {name}{late}")


def _sticky(pdep: PolicyDeployment, kind: str, verdict: Verdict) -> Verdict:
    """Keep the first sentence of an alert's verdict: its numbers change with every evaluation."""
    old = get_condition(pdep.status.conditions, kind)
    same = old is not None and (old.status == "True", old.reason) == (
        verdict.status,
        verdict.reason,
    )
    if (
        old is not None
        and same
        and verdict.reason in (reasons.HALTED, reasons.ALERT_FIRING, reasons.STABLE_UNHEALTHY)
    ):
        return replace(verdict, message=old.message)
    return verdict


def summarize(
    pdep: PolicyDeployment, observed: Observed, state: RolloutState
) -> PolicyDeploymentStatus:
    """Return the status of a RolloutState."""
    degraded = state.degraded or Verdict(False, reasons.AS_EXPECTED)
    verdicts = {
        COND_READY: _ready(pdep, observed, state),
        COND_PROGRESSING: state.progressing or Verdict(False, "Unknown"),
        COND_DEGRADED: degraded,
        COND_MONITORING: _monitoring(pdep, observed),
    }
    conditions = tuple(pdep.status.conditions)
    for kind, raw in verdicts.items():
        verdict = _sticky(pdep, kind, raw)
        status: Status = "True" if verdict.status else "False"
        conditions = set_condition(
            conditions,
            kind,
            status,
            verdict.reason,
            verdict.message,
            now=state.now,
            generation=pdep.meta.generation,
        )
    empty = state.handled == HandledAnnotations()
    return PolicyDeploymentStatus(
        observed_generation=pdep.meta.generation,
        conditions=list(conditions),
        state=verdicts[COND_PROGRESSING].reason,
        stable=state.stable,
        candidate=state.candidate,
        previous=state.previous,
        retiring=list(state.retiring),
        given_up=state.given_up,
        handled=None if empty else state.handled,
        alerts=list(state.alerts),
        rejected=list(state.rejected),
        history=list(state.history),
        url=observed.url or pdep.status.url,
    )


def unable(pdep: PolicyDeployment, verdict: Verdict, now: datetime) -> PolicyDeploymentStatus:
    """Return the status as it was, with the reason why what follows from it can't be written."""
    conditions = set_condition(
        pdep.status.conditions,
        COND_PROGRESSING,
        "False",
        verdict.reason,
        verdict.message,
        now=now,
        generation=pdep.meta.generation,
    )
    return pdep.status.model_copy(update={"conditions": list(conditions), "state": verdict.reason})


def degraded_event(pdep: PolicyDeployment, status: PolicyDeploymentStatus) -> tuple[Event, ...]:
    """Return the Event for a deployment that has become degraded, or is so for another reason."""
    old = get_condition(pdep.status.conditions, COND_DEGRADED)
    new = get_condition(status.conditions, COND_DEGRADED)
    if new is None or new.status != "True":
        return ()
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return ()
    return (Event("Warning", new.reason, new.message),)


def blocked_event(pdep: PolicyDeployment, status: PolicyDeploymentStatus) -> tuple[Event, ...]:
    """Return the Event for what a person must change, once for each sentence."""
    old = get_condition(pdep.status.conditions, COND_PROGRESSING)
    new = get_condition(status.conditions, COND_PROGRESSING)
    if new is None or new.reason not in (reasons.NAME_CONFLICT, reasons.SERVER_INVALID):
        return ()
    if old is not None and (old.reason, old.message) == (new.reason, new.message):
        return ()
    return (Event("Warning", new.reason, new.message),)
