"""How long checkpoints are kept: what an attempt's pods are told, in a file beside run.json."""

from pydantic import Field

from policy_api.base import ApiModel, Time


class CheckpointRules(ApiModel):
    """Whose checkpoints may be removed, and when. A folder of checkpoints is named by a uid."""

    cluster: str = Field(min_length=1, description="uid of the namespace kube-system.")
    retention_seconds: int = Field(
        ge=0, description="How long this training's checkpoints are kept once it is gone."
    )
    as_of: Time = Field(description="When the list of trainings was true.")
    trainings: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "uids of the policy's trainings in this namespace that exist and have not succeeded; "
            "unset: they are too many to list, and nothing of others is removed."
        ),
    )
