"""Names of a PolicyDeployment's children that somebody else's objects have: what they stop. Pure.

A taken name stops the child that it is about, and what can't be without it: a version whose Service
is not ours gets no traffic, alerts without their rules can't fire. All else goes on.
"""

from collections.abc import Iterable
from datetime import timedelta

from policy_api import reasons

from policy_operator.children import Foreign
from policy_operator.rollout import rules, scaling, serving, shared
from policy_operator.rollout.manifests import server_name
from policy_operator.rollout.state import RolloutState
from policy_operator.rollout.types import Observed, PolicyDeployment

# No watch tells of an object without our label: whether the name is free now is tried.
LOOK_AGAIN = timedelta(seconds=30)


def of_server(pdep: PolicyDeployment, observed: Observed, version: int) -> tuple[Foreign, ...]:
    """Return what has the name of a version's Deployment or Service."""
    name = server_name(pdep.meta.name, version)
    found = (observed.taken(kind, name) for kind in ("Deployment", "Service"))
    return tuple(f for f in found if f is not None)


def beside_server(pdep: PolicyDeployment, observed: Observed, version: int) -> tuple[Foreign, ...]:
    """Return what has the name of what a version can serve without."""
    name = server_name(pdep.meta.name, version)
    found = (observed.taken(kind, name) for kind in scaling.kinds(pdep))
    return tuple(f for f in found if f is not None)


def of_route(pdep: PolicyDeployment, observed: Observed) -> tuple[Foreign, ...]:
    """Return what has the HTTPRoute's name."""
    found = observed.taken("HTTPRoute", pdep.meta.name)
    return () if found is None else (found,)


def of_rules(pdep: PolicyDeployment, observed: Observed) -> tuple[Foreign, ...]:
    """Return what has the name of the alert rules, where there are alerts."""
    kind = observed.rules_kind
    found = observed.taken(kind, rules.object_name(pdep, kind)) if pdep.spec.alerts else None
    return () if found is None else (found,)


def of_serving(pdep: PolicyDeployment, observed: Observed) -> tuple[Foreign, ...]:
    """Return what has the name of the ConfigMap that servers read: they would read that."""
    found = observed.taken("ConfigMap", serving.object_name(pdep.meta.name))
    return () if found is None else (found,)


def of_shared(pdep: PolicyDeployment, observed: Observed) -> tuple[Foreign, ...]:
    """Return what has the name of what all versions share, and can serve without."""
    found = (
        observed.taken(m["kind"], m["metadata"]["name"]) for m in shared.wanted(pdep, observed)
    )
    return tuple(f for f in found if f is not None)


def of_candidate(pdep: PolicyDeployment, observed: Observed, version: int) -> tuple[Foreign, ...]:
    """Return what keeps a version from taking traffic."""
    return (
        *of_server(pdep, observed, version),
        *of_serving(pdep, observed),
        *of_route(pdep, observed),
    )


def every(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> tuple[Foreign, ...]:
    """Return everything that has the name of a child that should be there."""
    servers = [
        f
        for v in sorted(state.running())
        for find in (of_server, beside_server)
        for f in find(pdep, observed, v)
    ]
    common = (of_serving, of_shared, of_route) if state.running() else ()
    return (
        *(f for look in common for f in look(pdep, observed)),
        *servers,
        *of_rules(pdep, observed),
    )


def sentence(found: Iterable[Foreign]) -> str:
    """Name the objects and their owners, and what to do."""
    names = "; ".join(f.sentence for f in found)
    return f"{names}: delete or rename it, or give this PolicyDeployment another name"


def tell(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> RolloutState:
    """Say which names are taken, and look again soon."""
    found = every(pdep, observed, state)
    if not found:
        return state
    state = state.check_at(state.now + LOOK_AGAIN)
    halted = state.progressing is not None and state.progressing.reason == reasons.HALTED
    if state.urgent or halted:
        return state
    return state.say(False, reasons.NAME_CONFLICT, sentence(found))
