"""How many pods a version of a PolicyDeployment has."""

from typing import Any

from pydantic import Field

from policy_api.base import ApiModel, rule, rules

DEFAULT_CPU_PERCENT = 80
_OPEN: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Autoscaling(ApiModel):
    """A HorizontalPodAutoscaler for each version that takes traffic."""

    model_config = rules(
        rule(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "minReplicas must not be above maxReplicas",
        )
    )

    min_replicas: int = Field(
        default=1, ge=1, le=1000, description="Pods of a version at the least, and at its start."
    )
    max_replicas: int = Field(ge=1, le=1000, description="Pods of a version at the most.")
    cpu_utilization_percent: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description=(
            "Pods are added above this use of the server's CPU request, in percent on average; "
            f"unset, with no metrics: {DEFAULT_CPU_PERCENT}. Needs resources.requests.cpu."
        ),
    )
    metrics: list[dict[str, Any]] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="More metrics to scale by, as in a HorizontalPodAutoscaler (autoscaling/v2).",
        json_schema_extra={"items": _OPEN, "x-kubernetes-list-type": "atomic"},
    )
    behavior: dict[str, Any] | None = Field(
        default=None,
        description="How fast pods come and go, as in a HorizontalPodAutoscaler (autoscaling/v2).",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
