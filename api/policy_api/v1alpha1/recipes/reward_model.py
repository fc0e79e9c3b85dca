"""The block of recipe RewardModel."""

from policy_api.v1alpha1.recipes.common import Args, TextCommon


class RewardModel(TextCommon):
    """A model that scores answers, learned from preference pairs (TRL RewardTrainer)."""

    args: Args
