"""What the blocks of several recipes share."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from policy_api.base import ApiModel, rule, rules


class Recipe(StrEnum):
    """How a policy is trained."""

    SFT = "SFT"
    DPO = "DPO"
    REWARD_MODEL = "RewardModel"
    GRPO = "GRPO"
    PPO = "PPO"
    CQL = "CQL"
    CONSTRAINED_PPO = "ConstrainedPPO"
    CLASSIFIER = "Classifier"
    PLAN_PREFERENCE = "PlanPreference"


# Recipes that train a transformers model: they need a base and may run on several nodes.
TEXT_RECIPES = (Recipe.SFT, Recipe.DPO, Recipe.REWARD_MODEL, Recipe.GRPO, Recipe.PPO)

# Others that can go on from an earlier version of themselves.
INCREMENTAL_RECIPES = (Recipe.CQL,)

Args = Annotated[
    dict[str, Any],
    Field(
        default_factory=dict,
        description=(
            "Any other field of the recipe's library config, by the library's name. Name and type "
            "are checked before anything is trained."
        ),
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    ),
]


class TextCommon(ApiModel):
    """What recipes of text models take."""

    epochs: float = Field(default=1.0, gt=0, le=1000, description="Passes over the data.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps; when set, it wins over epochs."
    )
    learning_rate: float = Field(
        default=1.0e-5, gt=0, le=1, description="Peak learning rate of AdamW."
    )
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="Samples a process takes in one forward pass."
    )
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, le=4096, description="Forward passes for each optimizer step."
    )
    max_length: int = Field(
        default=512, ge=8, le=1_048_576, description="Longest prompt and completion, in tokens."
    )


class Decision(ApiModel):
    """A yes or no that an answer contains, to be judged by itself."""

    model_config = rules(
        rule("self.pattern.contains('(')", "pattern needs a group: what it finds is the decision")
    )

    pattern: str = Field(
        min_length=3,
        max_length=1024,
        description="A Python regular expression; its first group is the decision.",
    )
    positive: str = Field(
        default="true", min_length=1, max_length=64, description="The group's text for yes."
    )


class Deciding(TextCommon):
    """What recipes take whose answers may contain a decision."""

    decision: Decision | None = Field(
        default=None,
        description=(
            "Judge the decisions in answers to `validation`: accuracy, and the rates of false "
            "positives and false negatives."
        ),
    )
