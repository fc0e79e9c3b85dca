"""The block of recipe ConstrainedPPO."""

from typing import Annotated

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.v1alpha1.recipes.features import ColumnName

Share = Annotated[float, Field(ge=0, lt=1)]


class Fatigue(ApiModel):
    """How often a customer may be contacted."""

    max_contacts: int = Field(
        default=2, ge=1, le=1000, description="Most contacts of a customer within a window."
    )
    window: int = Field(default=3, ge=1, le=1000, description="Length of the window, in periods.")


class ConstrainedPPO(ApiModel):
    """Which offer to make to whom, under a budget and a limit of contacts (Lagrangian PPO).

    The policy learns in a simulation that the risk and acceptance models make of the customers.
    """

    model_config = rules(
        rule(
            "self.offers.size() == self.averts.size()", "averts needs one number for each of offers"
        )
    )

    value: ColumnName = Field(description="Column with a customer's revenue in a period.")
    periods: int = Field(default=12, ge=1, le=1000, description="Length of an episode, in periods.")
    offers: list[Share] = Field(
        default=[0.0, 0.05, 0.1, 0.2],
        min_length=1,
        max_length=32,
        description="Discounts that may be offered, as shares; not to contact is always possible.",
    )
    averts: list[Share] = Field(
        default=[0.1, 0.5, 0.7, 0.85],
        min_length=1,
        max_length=32,
        description="Share of the risk in a period that each of them averts when it is accepted.",
    )
    sensitivity: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="How the log-odds of acceptance grow with the discount, a share of 1.",
    )
    contact_cost: float = Field(
        default=1.0, ge=0, description="What a contact costs, in the unit of value."
    )
    budget: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Most that discounts and contacts may cost, as a share of all revenue.",
    )
    contact_rate: float = Field(
        default=0.2, gt=0, le=1, description="Most contacts, a customer and period."
    )
    fatigue: Fatigue = Field(
        default_factory=Fatigue, description="Contacts that are never made: the action is masked."
    )
    iterations: int = Field(
        default=150,
        ge=1,
        le=1_000_000,
        description="Number of iterations: each samples episodes and learns from them.",
    )
    customers: int = Field(
        default=1024, ge=2, le=1_000_000, description="Customers simulated in an iteration."
    )
    mini_batch_size: int = Field(
        default=256, ge=1, le=1_000_000, description="Customers in each optimizer step."
    )
    epochs: int = Field(
        default=4, ge=1, le=100, description="Passes over the episodes of an iteration."
    )
    learning_rate: float = Field(default=1.0e-3, gt=0, le=1, description="Learning rate of Adam.")
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[64, 64], min_length=1, max_length=8, description="Widths of the hidden layers."
    )
    gamma: float = Field(default=1.0, ge=0, le=1, description="Discount factor for each period.")
    gae_lambda: float = Field(default=0.95, ge=0, le=1, description="Lambda of GAE.")
    clip: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Clipping range of the probability ratio (PPO's epsilon).",
    )
    entropy: float = Field(default=0.01, ge=0, le=10, description="Weight of the entropy bonus.")
    multiplier_rate: float = Field(
        default=0.05, gt=0, le=10, description="Step of the multipliers of the two constraints."
    )
    evaluation_seeds: int = Field(
        default=20, ge=2, le=1000, description="Simulations behind the metrics and their intervals."
    )
