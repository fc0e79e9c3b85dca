"""What a running server is told: the operator writes it, pods mount it as serving.json.

The operator is upgraded while server images stay: see `policy_api.contract.versions`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from policy_api.base import ApiModel
from policy_api.contract.environment import SERVING_FILE
from policy_api.contract.versions import load
from policy_api.skew import unknown_field
from policy_api.v1alpha1.routes import Route
from policy_api.v1alpha1.serving import ServingFields, Strategy

SCHEMA_VERSION = 1


class Peer(ApiModel):
    """Another deployment's server, which this one asks."""

    deployment: str = Field(description="Name of its PolicyDeployment.")
    version: int | None = Field(
        default=None, description="The version that was asked for; unset: the stable one."
    )
    url: str = Field(description="Where it answers, without a path.")


class ServingConfig(ServingFields):
    """How a deployment's servers make decisions and give them out; all fields may change."""

    routes: list[Route] | None = Field(
        default=None, description="Paths of the user's own, as in spec.server.routes."
    )
    peers: list[Peer] | None = Field(
        default=None, description="Servers of other deployments that these ones ask."
    )

    schema_version: int | None = Field(
        default=None, ge=1, description="Version of this shape; unset: 1."
    )

    def peer(self, deployment: str, version: int | None = None) -> str | None:
        """Return where a deployment's server answers; None: it is not known."""
        wanted = (deployment, version)
        found = (p.url for p in self.peers or () if (p.deployment, p.version) == wanted)
        return next(found, None)


def parse_serving(content: bytes) -> tuple[ServingConfig, str | None]:
    """Read serving.json, whichever version of the operator wrote it.

    Returns:
        The config, and the path of the first thing that this version does not know, if there is
        one: the server does without it. A baseline of a strategy that only a newer server knows
        is none, and so is a route of a shape that this one does not know.

    Raises:
        ValueError: it is no JSON object, of another schema version, or a field has another shape.
    """
    remedy = "use a server image as new as the operator"
    wire = load(content, SCHEMA_VERSION, SERVING_FILE, remedy)
    strange = unknown_field(ServingConfig, wire, "")
    if (strategy := _new_strategy(wire.get("baseline"))) is not None:
        wire = {**wire, "baseline": None}
        strange = f"baseline.strategy {strategy}"
    if (path := _new_route(wire)) is not None:
        wire = {**wire, "routes": [r for r in wire["routes"] if _reads(r)]}
        strange = path
    return ServingConfig.model_validate(wire, extra="ignore"), strange


def _new_strategy(baseline: Any) -> str | None:
    found = baseline.get("strategy") if isinstance(baseline, dict) else None
    return found if isinstance(found, str) and found not in set(Strategy) else None


def _new_route(wire: Mapping[str, Any]) -> str | None:
    """Name the first route that only a newer server can read."""
    routes = wire.get("routes")
    if not isinstance(routes, list):
        return None
    return next((f"routes[{n}]" for n, route in enumerate(routes) if not _reads(route)), None)


def _reads(route: Any) -> bool:
    try:
        Route.model_validate(route, extra="ignore")
    except ValidationError:
        return False
    return True
