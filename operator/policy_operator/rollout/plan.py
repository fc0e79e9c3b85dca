"""The writes that make a status true, in an order that is safe to be cut anywhere."""

from collections.abc import Mapping

from policy_api.keys import ROLE_CANDIDATE, ROLE_STABLE
from policy_api.v1alpha1.deployment import PolicyDeploymentStatus
from policy_api.v1alpha1.version import ServingAt

from policy_operator.children import stamp_of
from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import RecordServing
from policy_operator.rollout import conflicts, routes, rules, serving, shared
from policy_operator.rollout.manifests import server_name
from policy_operator.rollout.state import RolloutState
from policy_operator.rollout.types import (
    Action,
    ApplyRoute,
    ApplyRules,
    ApplyServer,
    ApplyServing,
    ApplyShared,
    DeleteObject,
    DeleteServer,
    Observed,
    PolicyDeployment,
)


def plan(
    pdep: PolicyDeployment,
    observed: Observed,
    state: RolloutState,
    status: PolicyDeploymentStatus,
    manifests: Mapping[int, tuple[Obj, ...]],
) -> tuple[Action, ...]:
    """Return what differs from what the status stands for.

    A rollback writes the weights first. Otherwise a route never names a Service that is not there:
    servers come before it, deletions after it. With a spec that says what this operator does not
    know, only weights that go back are written: the rest was made by an operator that knew.
    """
    route = _route(pdep, observed, state, status)
    if pdep.unknown is not None:
        back = route if state.urgent else []
        return (*back, *_records(pdep, observed, state))
    make = [
        *_serving(pdep, observed, state),
        *_shared(pdep, observed, state),
        *_servers(observed, state, manifests),
    ]
    record = _records(pdep, observed, state)
    alert_rules = _rules(pdep, observed)
    if state.urgent:
        return (*route, *record, *make, *alert_rules)
    return (*make, *alert_rules, *route, *record, *_deletions(pdep, observed, state))


def _taken(observed: Observed, manifest: Obj) -> bool:
    """Whether somebody else's object is known to have the manifest's name."""
    return observed.taken(manifest["kind"], manifest["metadata"]["name"]) is not None


def _serving(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> list[Action]:
    """Write what servers are told before the first of them starts."""
    wanted = serving.build(pdep, observed.peers)
    if not state.running() or _taken(observed, wanted) or observed.serving == stamp_of(wanted):
        return []
    return [ApplyServing(wanted)]


def _shared(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> list[Action]:
    """Write what all versions share, as long as there is one."""
    wanted = {m["kind"]: m for m in shared.wanted(pdep, observed)} if state.running() else {}
    found: list[Action] = [
        ApplyShared(manifest)
        for kind, manifest in wanted.items()
        if observed.shared.get(kind) != stamp_of(manifest) and not _taken(observed, manifest)
    ]
    return [*found, *(DeleteObject(k, pdep.meta.name) for k in observed.shared if k not in wanted)]


def _servers(
    observed: Observed, state: RolloutState, manifests: Mapping[int, tuple[Obj, ...]]
) -> list[Action]:
    found: list[Action] = []
    for version in sorted(state.running()):
        wanted = manifests.get(version)
        if wanted is None:
            continue  # its PolicyVersion was deleted: the server that runs is left as it is
        server = observed.servers.get(version)
        have = server.stamps if server is not None else {}
        missing = tuple(m for m in wanted if have.get(m["kind"]) != stamp_of(m))
        missing = tuple(m for m in missing if not _taken(observed, m))
        if missing:
            found.append(ApplyServer(version, missing))
        name, kinds = wanted[0]["metadata"]["name"], {m["kind"] for m in wanted}
        found += [DeleteObject(kind, name) for kind in have if kind not in kinds]
    return found


def _route(
    pdep: PolicyDeployment, observed: Observed, state: RolloutState, status: PolicyDeploymentStatus
) -> list[Action]:
    name, have = pdep.meta.name, observed.route
    if conflicts.of_route(pdep, observed):
        return []
    # One without traffic can be left out: its Service is somebody else's.
    split = tuple(
        b
        for b in routes.backends(status)
        if b.weight or observed.taken("Service", server_name(name, b.version)) is None
    )
    if not split:
        return [DeleteObject("HTTPRoute", name)] if have is not None else []
    if pdep.unknown is not None and have is not None and have.spec is not None:
        wanted = routes.reweigh(pdep, have.spec, split, state.rollback)
    else:
        wanted = routes.build(pdep, split, state.rollback)
    if have is not None and (have.applied, have.backends) == (stamp_of(wanted), split):
        return []
    return [ApplyRoute(wanted, final=state.rollback is not None)]


def _rules(pdep: PolicyDeployment, observed: Observed) -> list[Action]:
    found: list[Action] = []
    if pdep.spec.alerts and not conflicts.of_rules(pdep, observed):
        have = next((r for r in observed.rules if r.kind == observed.rules_kind), None)
        if have is None or have.applied != rules.stamp(pdep, observed.rules_kind):
            found.append(ApplyRules(rules.build(pdep, observed.rules_kind)))
    found += [
        DeleteObject(r.kind, r.name)
        for r in observed.rules
        if not pdep.spec.alerts or r.kind != observed.rules_kind
    ]
    return found


def serves(state: RolloutState, deployment: str, version: int) -> ServingAt | None:
    """Return where the version serves, by the status."""
    if state.stable is not None and state.stable.version == version:
        return ServingAt(deployment=deployment, role=ROLE_STABLE, weight=state.stable.weight)
    if state.candidate is not None and state.candidate.version == version:
        return ServingAt(deployment=deployment, role=ROLE_CANDIDATE, weight=state.candidate.weight)
    return None


def _records(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> list[Action]:
    found: list[Action] = []
    name = pdep.meta.name
    # Rejections first: the rest can be read off the status again.
    for version in sorted(observed.versions, key=lambda v: (v not in state.rejections, v)):
        have = next(
            (s for s in observed.versions[version].status.serving if s.deployment == name), None
        )
        wanted = serves(state, name, version)
        rejection = state.rejections.get(version)
        if rejection is not None or have != wanted:
            found.append(RecordServing(version, wanted, rejection))
    return found


def _deletions(pdep: PolicyDeployment, observed: Observed, state: RolloutState) -> list[Action]:
    """Delete servers that neither the old nor the new status nor the route knows."""
    old = pdep.status
    kept = state.running() | {r.version for r in state.retiring}
    kept |= {r.version for r in (old.stable, old.candidate, old.previous) if r is not None}
    kept |= {r.version for r in old.retiring}
    if observed.route is not None:
        kept |= {b.version for b in observed.route.backends}
    return [DeleteServer(v) for v in sorted(observed.servers) if v not in kept]
