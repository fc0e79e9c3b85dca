"""The block of recipe CQL."""

from typing import Annotated

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.v1alpha1.recipes.features import Features, Forbidden

ActionName = Annotated[str, Field(min_length=1, max_length=256)]


class CQL(ApiModel):
    """Discrete conservative Q-learning from logged decisions (Kumar et al. 2020)."""

    model_config = rules(
        rule(
            "!has(self.features) || !has(self.forbidden) || "
            "!self.features.exists(f, f.name in self.forbidden)",
            "a column must not be both in features and in forbidden",
        ),
    )

    max_steps: int = Field(
        default=5000, ge=1, le=100_000_000, description="Gradient steps, for each of alphas."
    )
    batch_size: int = Field(
        default=64, ge=1, le=65536, description="Decisions in each optimizer step."
    )
    learning_rate: float = Field(
        default=3.0e-4,
        gt=0,
        le=1,
        description="Learning rate of Adam at the start; it falls linearly to zero.",
    )
    gamma: float = Field(
        default=0.99, ge=0, lt=1, description="What the next decision's reward is worth."
    )
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[256, 256], min_length=1, max_length=8, description="Widths of the hidden layers."
    )
    alphas: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        default=[1.0],
        min_length=1,
        max_length=16,
        description=(
            "Weights of the conservative term, each trained; kept is the one whose policy is worth "
            "most on `validation`."
        ),
    )
    target_update_steps: int = Field(
        default=200, ge=1, le=1_000_000, description="Steps between copies to the target network."
    )
    success_reward: float = Field(
        default=0.0, description="A decision has succeeded when its reward is above this."
    )
    actions: list[ActionName] = Field(
        default_factory=list,
        max_length=1024,
        description=(
            "What may be chosen; a sequence is written `first>second`. Unset: what the training "
            "data has."
        ),
    )
    features: Features
    forbidden: Forbidden
