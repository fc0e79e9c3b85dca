"""The block of recipe PPO."""

from pydantic import Field

from policy_api.base import ApiModel, list_map, rule, rules
from policy_api.v1alpha1.recipes.rewards import Reward


class AdaptiveKL(ApiModel):
    """The penalty on leaving the start, adapted so that the divergence holds a target."""

    initial: float = Field(
        default=0.1,
        ge=0,
        le=100,
        description=(
            "Initial and least coefficient of the KL penalty, beside scores of deviation 1: the "
            "pull while the divergence is below the target."
        ),
    )
    target: float = Field(
        default=0.15, gt=0, le=100, description="Divergence to hold, in nats a token."
    )
    rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description=(
            "How fast the coefficient follows: 1 is up to a fifth an iteration, 0 keeps it as it "
            "is."
        ),
    )


class PPO(ApiModel):
    """Proximal policy optimization of a text model (Schulman et al. 2017, Ziegler et al. 2019)."""

    model_config = rules(
        rule(
            "self.batchSize % self.miniBatchSize == 0",
            "batchSize must be a multiple of miniBatchSize",
        )
    )

    iterations: int = Field(
        default=200, ge=1, le=1_000_000, description="Rounds of sampling and learning: the steps."
    )
    batch_size: int = Field(
        default=32, ge=1, le=4096, description="Prompts that a process answers in an iteration."
    )
    mini_batch_size: int = Field(
        default=8, ge=1, le=4096, description="Answers that a process takes in an optimizer step."
    )
    epochs: int = Field(
        default=4,
        ge=1,
        le=100,
        description=(
            "Passes over an iteration's answers, at most: an iteration ends once the policy is "
            "clip²/2 nats a token from the one that answered."
        ),
    )
    learning_rate: float = Field(
        default=1.0e-5,
        gt=0,
        le=1,
        description="Initial learning rate of AdamW; it falls to 0 linearly.",
    )
    max_length: int = Field(
        default=512, ge=8, le=1_048_576, description="Longest prompt and answer, in tokens."
    )
    max_completion_length: int = Field(
        default=180, ge=1, le=1_048_576, description="Longest answer, in tokens."
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="Sampling temperature, of the training and of the version that serves.",
    )
    gamma: float = Field(default=1.0, ge=0, le=1, description="Discount factor for each token.")
    gae_lambda: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Lambda of generalized advantage estimation (Schulman et al. 2016).",
    )
    clip: float = Field(
        default=0.2, gt=0, lt=1, description="How far a token's ratio and a value may move at once."
    )
    value_weight: float = Field(
        default=0.1, ge=0, le=100, description="Weight of the value loss beside the policy loss."
    )
    kl: AdaptiveKL = Field(
        default_factory=AdaptiveKL,
        description="Penalty on the KL divergence from the policy that training starts from.",
    )
    rewards: list[Reward] = Field(
        min_length=1,
        max_length=32,
        description="Terms of the reward; an answer's reward is their sum.",
        json_schema_extra=list_map("name"),
    )
