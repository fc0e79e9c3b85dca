"""PolicyVersion: the registry's record of one trained version; written by the operator alone."""

from typing import Any

from pydantic import Field

from policy_api.base import (
    CONDITIONS_EXTRA,
    DNS_LABEL,
    SHA256,
    ApiModel,
    Condition,
    Metric,
    list_map,
    rule,
    rules,
)
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.store import URI, SecretRef


class VersionArtifact(ApiModel):
    """Where the version's files are."""

    uri: str = Field(pattern=URI, max_length=1024, description="Folder of the artifact.")
    sha256: str = Field(pattern=SHA256, description="Checksum of its policy.json.")
    secret_ref: SecretRef | None = Field(
        default=None, description="Secret with the store's credentials, as environment variables."
    )


class TrainingOrigin(ApiModel):
    """The training that made the version."""

    name: str = Field(description="Name of the PolicyTraining.")
    uid: str = Field(description="Its uid: the same name may be used again later.")


class PolicyVersionSpec(ApiModel):
    """What the version is; never changes."""

    model_config = rules(
        rule("self == oldSelf", "a PolicyVersion is a record and can't be changed")
    )

    policy: str = Field(pattern=DNS_LABEL, max_length=40, description="The policy's name.")
    version: int = Field(
        ge=1, description="Number of the version; never used twice for one policy."
    )
    artifact: VersionArtifact = Field(description="Where its files are.")
    training: TrainingOrigin = Field(description="The training that made it.")
    recipe: Recipe = Field(description="Recipe that trained it.")
    tag: str | None = Field(default=None, max_length=63, description="Experiment label.")
    parent_version: int | None = Field(
        default=None, ge=1, description="The version that training started from."
    )
    cost: Cost | None = Field(default=None, description="What its training cost.")
    metrics: list[Metric] = Field(
        default_factory=list,
        max_length=64,
        description="Final metrics of the training.",
        json_schema_extra=list_map("name"),
    )


class ServingAt(ApiModel):
    """A deployment that serves the version."""

    deployment: str = Field(description="Name of the PolicyDeployment.")
    role: str = Field(description="`stable` or `candidate`.")
    weight: int = Field(ge=0, le=100, description="Its part of the traffic, in percent.")


class PolicyVersionStatus(ApiModel):
    """What became of the version."""

    conditions: list[Condition] = Field(
        default_factory=list,
        description=(
            "Accepted (by its exit criteria), Serving, Rejected (rolled back in production: no "
            "deployment takes it again unless asked with policyops.dev/retry)."
        ),
        json_schema_extra=CONDITIONS_EXTRA,
    )
    serving: list[ServingAt] = Field(
        default_factory=list,
        description="Where it serves.",
        json_schema_extra=list_map("deployment"),
    )


def version_name(policy: str, version: int) -> str:
    """Return the PolicyVersion's name; the API server's uniqueness makes it the number's claim."""
    return f"{policy}-v{version}"


def version_of(obj: dict[str, Any]) -> int:
    """Return the number of a PolicyVersion object."""
    return int(obj["spec"]["version"])
