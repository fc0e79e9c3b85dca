"""Other deployments whose servers a deployment's servers ask: who they are, and where. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from policy_api import skew
from policy_api.contract.serving import Peer
from policy_api.keys import KIND_DEPLOYMENT
from policy_api.v1alpha1.deployment import PolicyDeploymentStatus

from policy_operator.machinery.cache import Cache
from policy_operator.rollout.manifests import server_name
from policy_operator.rollout.types import SERVICE_PORT, PolicyDeployment


def wanted(pdep: PolicyDeployment) -> Iterator[tuple[str, int | None]]:
    """Yield (deployment, version) of the servers that are asked; no version: the stable one."""
    for route in pdep.spec.server.routes or ():
        if route.then is not None:
            yield route.then.deployment, None
    if (scoring := pdep.spec.scoring) is not None:
        yield scoring.deployment, scoring.version


def find(cache: Cache, pdep: PolicyDeployment) -> tuple[Peer, ...]:
    """Return where the servers that are asked answer, as far as they run."""
    return tuple(
        Peer(deployment=name, version=version, url=url)
        for name, version in dict.fromkeys(wanted(pdep))
        if (url := _url(cache, pdep.meta.namespace, name, version)) is not None
    )


def _url(cache: Cache, namespace: str, name: str, version: int | None) -> str | None:
    found = cache.get(KIND_DEPLOYMENT, namespace, name)
    if found is None or found["metadata"].get("deletionTimestamp"):
        return None
    serves = _running(found.get("status") or {}, version)
    if serves is None:
        return None
    return f"http://{server_name(name, serves)}.{namespace}.svc:{SERVICE_PORT}"


def _running(status: Mapping[str, Any], version: int | None) -> int | None:
    """Return the version that is asked, if it runs."""
    told = skew.read(PolicyDeploymentStatus, status)
    if version is None:
        return None if told.stable is None else told.stable.version
    running = {r.version for r in (told.stable, told.candidate, told.previous) if r is not None}
    return version if version in running else None
