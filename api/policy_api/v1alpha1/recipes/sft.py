"""The block of recipe SFT."""

from pydantic import Field

from policy_api.v1alpha1.recipes.common import Args, Deciding


class SFT(Deciding):
    """Supervised fine-tuning on prompt and completion pairs or chats (TRL SFTTrainer)."""

    packing: bool = Field(
        default=False,
        description=(
            "Fill each sequence of maxLength tokens with several short rows, which do not see each "
            "other: faster when rows are short."
        ),
    )
    args: Args
