"""What must be met: exit criteria, rules that end a run early, and their verdicts."""

from enum import StrEnum

from pydantic import Field

from policy_api.base import (
    ApiModel,
    rule,
    rules,
)


class ExitCriterion(ApiModel):
    """A condition on a reported metric that the training must meet to succeed."""

    model_config = rules(
        rule(
            "has(self.min) || has(self.max) || has(self.lowerBound) || has(self.upperBound)",
            "set at least one of min, max, lowerBound, upperBound",
        ),
        rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"
        ),
    )

    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", max_length=63, description="Name of the metric, snake_case."
    )
    min: float | None = Field(default=None, description="Met when the metric is at least this.")
    max: float | None = Field(default=None, description="Met when the metric is at most this.")
    lower_bound: float | None = Field(
        default=None, description="Met when the whole interval of the metric is above this."
    )
    upper_bound: float | None = Field(
        default=None, description="Met when the whole interval of the metric is below this."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of the metric's interval."
    )
    against: str = Field(
        default="",
        pattern=r"^(best-baseline|version:[1-9][0-9]*)?$",
        max_length=32,
        description=(
            "Judge the difference to this instead: best-baseline, or version:<N> of this policy, "
            "measured on the same data."
        ),
    )


class OnUnmet(StrEnum):
    """What becomes of a training whose exit criteria are unmet."""

    FAIL = "Fail"
    KEEP = "Keep"


class StopRule(ApiModel):
    """Ends a run early when a metric that it reports while it runs is out of bounds."""

    model_config = rules(rule("has(self.min) || has(self.max)", "set min, max or both"))

    metric: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_/-]*$",
        max_length=63,
        description="Name of a metric that is reported while the training runs.",
    )
    min: float | None = Field(default=None, description="Out of bounds below this.")
    max: float | None = Field(default=None, description="Out of bounds above this.")
    patience: int = Field(
        default=1, ge=1, le=10000, description="Reports in a row that must be out of bounds."
    )


class CriterionVerdict(ApiModel):
    """One exit criterion and what became of it."""

    metric: str = Field(description="Name of the metric.")
    met: bool = Field(description="Whether the criterion is met.")
    observed: float | None = Field(default=None, description="The reported value, if any.")
    wanted: str = Field(description="What was asked for, e.g. `>= 0.15`.")
    message: str = Field(default="", description="Why it could not be judged, if so.")
