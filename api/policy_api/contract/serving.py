"""What a running server is told: the operator writes it, pods mount it as serving.json.

The operator is upgraded while server images stay: see `policy_api.contract.versions`.
"""

from typing import Any

from pydantic import Field

from policy_api.contract.environment import SERVING_FILE
from policy_api.contract.versions import load
from policy_api.skew import unknown_field
from policy_api.v1alpha1.serving import ServingFields, Strategy

SCHEMA_VERSION = 1


class ServingConfig(ServingFields):
    """How a deployment's servers make decisions and give them out; all fields may change."""

    schema_version: int | None = Field(
        default=None, ge=1, description="Version of this shape; unset: 1."
    )


def parse_serving(content: bytes) -> tuple[ServingConfig, str | None]:
    """Read serving.json, whichever version of the operator wrote it.

    Returns:
        The config, and the path of the first thing that this version does not know, if there is
        one: the server does without it. A baseline of a strategy that only a newer server knows
        is none.

    Raises:
        ValueError: it is no JSON object, of another schema version, or a field has another shape.
    """
    remedy = "use a server image as new as the operator"
    wire = load(content, SCHEMA_VERSION, SERVING_FILE, remedy)
    strange = unknown_field(ServingConfig, wire, "")
    if (strategy := _new_strategy(wire.get("baseline"))) is not None:
        wire = {**wire, "baseline": None}
        strange = f"baseline.strategy {strategy}"
    return ServingConfig.model_validate(wire, extra="ignore"), strange


def _new_strategy(baseline: Any) -> str | None:
    found = baseline.get("strategy") if isinstance(baseline, dict) else None
    return found if isinstance(found, str) and found not in set(Strategy) else None
