"""The block of recipe PlanPreference."""

from typing import Annotated

from pydantic import Field

from policy_api.base import ApiModel

Keywords = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=64)
]


class PlanPreference(ApiModel):
    """A bag-of-words model of which plans people liked, from their feedback."""

    epochs: int = Field(default=5, ge=1, le=1000, description="Passes over the data.")
    max_vocabulary: int = Field(
        default=4000, ge=1, le=1_000_000, description="Most frequent words that are kept."
    )
    learning_rate: float = Field(default=0.05, gt=0, le=10, description="Learning rate of Adam.")
    positive_keywords: Keywords = Field(
        default=["pos", "good", "great", "+1", "accept", "helpful", "correct"],
        description="Words of feedback or tags that make a plan a good one.",
    )
    negative_keywords: Keywords = Field(
        default=["neg", "bad", "wrong", "worse", "-1", "reject", "not good"],
        description="Words that make it a bad one; they win over positive ones that they contain.",
    )
