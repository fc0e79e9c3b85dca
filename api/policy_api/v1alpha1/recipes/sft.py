"""The block of recipe SFT."""

from policy_api.v1alpha1.recipes.common import Args, Deciding


class SFT(Deciding):
    """Supervised fine-tuning on prompt and completion pairs or chats (TRL SFTTrainer)."""

    args: Args
