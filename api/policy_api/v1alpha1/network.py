"""Who reaches the servers of a PolicyDeployment, where the network enforces policies."""

from typing import Annotated, Any

from pydantic import Field

from policy_api.base import DNS_LABEL, ApiModel

_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
Namespace = Annotated[str, Field(pattern=DNS_LABEL, max_length=63)]


class ServerNetworkPolicy(ApiModel):
    """A NetworkPolicy that lets in the Gateway, Prometheus and the deployment's own servers."""

    gateway_namespaces: list[Namespace] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description=(
            "Namespaces in which the pods of the Gateway run; unset: those of traffic.parentRefs."
        ),
        json_schema_extra=_SET,
    )
    metrics_namespaces: list[Namespace] | None = Field(
        default=None,
        max_length=16,
        description=(
            "Namespaces from which metrics are read; unset: those labelled "
            "policyops.dev/metrics=allowed."
        ),
        json_schema_extra=_SET,
    )
    peers: list[dict[str, Any]] | None = Field(
        default=None,
        max_length=32,
        description="Who else may ask the servers, as in `from` of a NetworkPolicy.",
        json_schema_extra={
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "x-kubernetes-list-type": "atomic",
        },
    )
