"""Terms of a reward that is declared in a manifest."""

from typing import Annotated

from pydantic import Field

from policy_api.base import DNS_LABEL, ApiModel, rule, rules
from policy_api.v1alpha1.judge import CRITERION

Texts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=32)
]
Patterns = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1, max_length=64)
]


class Length(ApiModel):
    """A condition on, or a measure of, an answer's length in characters."""

    model_config = rules(
        rule(
            "[has(self.target), has(self.under), has(self.min) || has(self.max)]"
            ".filter(x, x).size() == 1",
            "set either target, or under, or min and/or max",
        )
    )

    min: int | None = Field(
        default=None, ge=0, description="Fewest characters of an answer that earns the reward."
    )
    max: int | None = Field(
        default=None, ge=0, description="Most characters of an answer that earns the reward."
    )
    target: int | None = Field(
        default=None,
        ge=1,
        description="Proportional instead: the answer's length over this target, at most 1.",
    )
    under: int | None = Field(
        default=None,
        ge=1,
        description="Brevity instead: 1 for an empty answer, falling to 0 at this length.",
    )


_REWARD_KINDS = (
    "contains",
    "containsAny",
    "regex",
    "forbidden",
    "length",
    "function",
    "model",
    "judge",
)


class Reward(ApiModel):
    """One term of the reward: `weight` when its condition holds, else 0."""

    model_config = rules(
        rule(
            "[" + ", ".join(f"has(self.{k})" for k in _REWARD_KINDS) + "].filter(x, x).size() == 1",
            f"set exactly one of {', '.join(_REWARD_KINDS)}",
        )
    )

    name: str = Field(
        pattern=DNS_LABEL, max_length=63, description="Name of the term; its mean is a metric."
    )
    weight: float = Field(description="What the term adds; negative for a penalty.")
    contains: Texts | None = Field(default=None, description="The answer has all of these texts.")
    contains_any: Texts | None = Field(
        default=None, description="The answer has one of these texts."
    )
    regex: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A Python regular expression that is found somewhere in the answer.",
    )
    forbidden: Patterns | None = Field(
        default=None,
        description=("Safety: none of these Python regular expressions is found in the answer."),
    )
    length: Length | None = Field(
        default=None, description="The answer's length in characters is in a range."
    )
    function: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        max_length=253,
        description=(
            "`module:function` of the trainer image, called with `prompts` and `completions`, two "
            "lists of texts; it returns one number an answer, which the weight multiplies."
        ),
    )
    model: str | None = Field(
        default=None,
        json_schema_extra={"enum": ["reward"]},
        description="The reward model of referenceModels.reward; the weight multiplies its score.",
    )
    judge: str | None = Field(
        default=None,
        pattern=CRITERION,
        max_length=40,
        description=(
            "A criterion of spec.judge; the weight multiplies the judge's rating, from 0 (worst) "
            "to 1 (best)."
        ),
    )
