"""The block of recipe DPO."""

from pydantic import Field

from policy_api.v1alpha1.recipes.common import Args, Deciding


class DPO(Deciding):
    """Direct preference optimization (Rafailov et al. 2023, TRL DPOTrainer)."""

    beta: float = Field(
        default=0.1, gt=0, le=100, description="How strongly the policy is kept at its start."
    )
    args: Args
