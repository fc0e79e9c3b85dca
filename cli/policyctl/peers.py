"""Other policies' servers on this machine, which a deployment's server asks."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from policy_api.contract.serving import Peer
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec

from policyctl.errors import UserError


def _wanted(spec: PolicyDeploymentSpec) -> Iterator[tuple[str, int | None]]:
    """Yield (deployment, version) of each server that is asked."""
    for route in spec.server.routes or ():
        if route.then is not None:
            yield route.then.deployment, None
    if (scoring := spec.scoring) is not None:
        yield scoring.deployment, scoring.version


def read(spec: PolicyDeploymentSpec, given: Sequence[str]) -> list[Peer]:
    """Return where the servers are that a deployment asks.

    Args:
        spec: The deployment's.
        given: NAME=URL, each.

    Raises:
        UserError: One is not of that form, or nobody asks it.
    """
    urls = dict(_parts(text) for text in given)
    asked = set(_wanted(spec))
    if strange := urls.keys() - {name for name, _ in asked}:
        raise UserError(f"--peer {min(strange)}: this PolicyDeployment does not ask it")
    return [
        Peer(deployment=name, version=version, url=urls[name])
        for name, version in sorted(asked, key=str)
        if name in urls
    ]


def _parts(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    parts = urlsplit(url)
    if not name or parts.scheme not in {"http", "https"} or not parts.netloc:
        raise UserError(f"--peer {text}: write NAME=http://HOST:PORT")
    if parts.path.strip("/") or parts.query:
        raise UserError(f"--peer {text}: leave the path out")
    return name, f"{parts.scheme}://{parts.netloc}"
