"""The block of recipe GRPO."""

from pydantic import Field

from policy_api.base import list_map
from policy_api.v1alpha1.recipes.common import Args, TextCommon
from policy_api.v1alpha1.recipes.rewards import Reward


class GRPO(TextCommon):
    """Group relative policy optimization (Shao et al. 2024, TRL GRPOTrainer)."""

    num_generations: int = Field(
        default=8, ge=2, le=256, description="Answers sampled for each prompt: the group."
    )
    max_completion_length: int = Field(
        default=256, ge=1, le=1_048_576, description="Longest answer, in tokens."
    )
    temperature: float = Field(default=1.0, gt=0, le=10, description="Sampling temperature.")
    beta: float = Field(
        default=0.0, ge=0, le=100, description="Weight of the KL term against the start."
    )
    rewards: list[Reward] = Field(
        min_length=1,
        max_length=32,
        description="Terms of the reward; an answer's reward is their sum.",
        json_schema_extra=list_map("name"),
    )
    args: Args
