"""The union: a recipe and the one block of its name."""

from typing import Any

from pydantic import Field

from policy_api.base import ApiModel, rule
from policy_api.v1alpha1.recipes.classifier import Classifier
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_api.v1alpha1.recipes.cql import CQL
from policy_api.v1alpha1.recipes.dpo import DPO
from policy_api.v1alpha1.recipes.grpo import GRPO
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference
from policy_api.v1alpha1.recipes.ppo import PPO
from policy_api.v1alpha1.recipes.reward_model import RewardModel
from policy_api.v1alpha1.recipes.sft import SFT


class RecipeBlocks(ApiModel):
    """A recipe and its settings; both the spec and a run's config have them."""

    recipe: Recipe = Field(description="How the policy is trained.")
    sft: SFT | None = Field(default=None, description="Settings of recipe SFT.")
    dpo: DPO | None = Field(default=None, description="Settings of recipe DPO.")
    reward_model: RewardModel | None = Field(
        default=None, description="Settings of recipe RewardModel."
    )
    grpo: GRPO | None = Field(default=None, description="Settings of recipe GRPO.")
    ppo: PPO | None = Field(default=None, description="Settings of recipe PPO.")
    cql: CQL | None = Field(default=None, description="Settings of recipe CQL.")
    constrained_ppo: ConstrainedPPO | None = Field(
        default=None, alias="constrainedPPO", description="Settings of recipe ConstrainedPPO."
    )
    classifier: Classifier | None = Field(
        default=None, description="Settings of recipe Classifier."
    )
    plan_preference: PlanPreference | None = Field(
        default=None, description="Settings of recipe PlanPreference."
    )

    def blocks(self) -> dict[str, Any]:
        """Return the recipe and its blocks, to be handed to another model that has them."""
        return {name: getattr(self, name) for name in RecipeBlocks.model_fields}


def field_of(recipe: Recipe) -> str:
    """Return the name of a recipe's block in Python, and of its module: `reward_model`."""
    return next(n for n in RecipeBlocks.model_fields if n.replace("_", "") == recipe.value.lower())


def block_of(recipe: Recipe) -> str:
    """Return the name of a recipe's block in a manifest: `rewardModel`."""
    return str(RecipeBlocks.model_fields[field_of(recipe)].alias)


BLOCK_NAMES = tuple(block_of(recipe) for recipe in Recipe)
BLOCK_RULES = tuple(
    rule(
        f"(self.recipe == '{recipe}') == has(self.{block_of(recipe)})",
        f"set {block_of(recipe)} if and only if recipe is {recipe}",
    )
    for recipe in Recipe
)
