"""Answers that a reward model scores after they were given."""

from pydantic import Field

from policy_api.base import DNS_LABEL, ApiModel


class Scoring(ApiModel):
    """Who scores which part of the answers."""

    deployment: str = Field(
        pattern=DNS_LABEL,
        max_length=40,
        description="The PolicyDeployment of a reward model, in the same namespace.",
    )
    version: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Its version that scores, while it runs there; unset: the stable one. Scores of two "
            "versions can't be compared, so one that a gate looks at names its version."
        ),
    )
    percent: int = Field(
        ge=1, le=100, description="How many of 100 answers are scored, drawn by chance."
    )
    timeout_milliseconds: int = Field(
        default=10_000,
        ge=1,
        le=60_000,
        description="How long a score may take, in milliseconds; then the answer has none.",
    )
