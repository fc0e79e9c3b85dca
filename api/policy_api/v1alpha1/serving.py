"""How a deployment's decisions are made and given out: what a running server may be told anew.

None of it is in the pods' template: the operator writes it into one ConfigMap, and servers read it
when it changes. Both the spec of a PolicyDeployment and that file have these fields.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from policy_api.base import ApiModel, rule, rules

ActionName = Annotated[str, Field(min_length=1, max_length=256)]
FeatureName = Annotated[str, Field(min_length=1, max_length=128)]


class Mode(StrEnum):
    """Who decides."""

    ADVISOR = "Advisor"
    PRIMARY = "Primary"
    HYBRID = "Hybrid"


class AutoApprove(ApiModel):
    """Which decisions of the policy need no person."""

    min_confidence: float = Field(
        ge=0,
        le=1,
        description="A decision is approved when its confidence is at least this, from 0 to 1.",
    )
    actions: list[ActionName] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Actions that may be approved; unset: all of them.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Operator(StrEnum):
    """How a condition looks at a feature."""

    IN = "In"
    NOT_IN = "NotIn"
    LESS_THAN = "LessThan"
    AT_MOST = "AtMost"
    AT_LEAST = "AtLeast"
    MORE_THAN = "MoreThan"


class RuleCondition(ApiModel):
    """What must hold of one feature of the request's `state`."""

    model_config = rules(
        rule(
            "(self.operator in ['In', 'NotIn']) == has(self.values)",
            "set values if and only if operator is In or NotIn",
        ),
        rule(
            "(self.operator in ['LessThan', 'AtMost', 'AtLeast', 'MoreThan']) == has(self.value)",
            "set value if and only if operator is LessThan, AtMost, AtLeast or MoreThan",
        ),
    )

    feature: FeatureName = Field(description="Name of the feature.")
    operator: Operator = Field(
        description=(
            "In: the feature is one of `values`, or is a list that has one of them; NotIn: it is "
            "not. LessThan, AtMost, AtLeast, MoreThan compare a number with `value`; they do not "
            "hold for a feature that is not known."
        )
    )
    values: list[Annotated[str, Field(max_length=256)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Texts; a number or a boolean of the request is compared as JSON writes it.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    value: float | None = Field(default=None, description="The number to compare with.")


class RuleCase(ApiModel):
    """An action, and when it is taken."""

    when: list[RuleCondition] = Field(
        min_length=1,
        max_length=16,
        description="All of these must hold.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    action: ActionName = Field(description="The action that is then taken.")


class FixedRule(ApiModel):
    """Rules over the request's features, or one answer."""

    model_config = rules(
        rule("has(self.action) != has(self.answer)", "set exactly one of action, answer"),
        rule(
            "!has(self.cases) || has(self.action)",
            "cases end in an action: set action, which is taken when no case holds",
        ),
    )

    cases: list[RuleCase] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="The first one that holds is taken.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    action: ActionName | None = Field(
        default=None, description="The action when no case holds; of policies that have actions."
    )
    answer: str | None = Field(
        default=None,
        min_length=1,
        max_length=8192,
        description=(
            "The answer to every request; of text policies. It must keep the policy's answerSchema."
        ),
    )


class Strategy(StrEnum):
    """How the baseline chooses."""

    RANDOM = "Random"
    MOST_FREQUENT = "MostFrequent"
    HIGHEST_SUCCESS = "HighestSuccess"
    RULE = "Rule"


class Baseline(ApiModel):
    """What answers instead of the policy, in the same process and without its model."""

    model_config = rules(
        rule(
            "(self.strategy == 'Rule') == has(self.rule)",
            "set rule if and only if strategy is Rule",
        ),
    )

    strategy: Strategy = Field(
        description=(
            "Random: any allowed action. MostFrequent: what the training data chose most often. "
            "HighestSuccess: what succeeded most often there. Rule: what `rule` says. MostFrequent "
            "and HighestSuccess need what only CQL keeps of its training data."
        )
    )
    rule: FixedRule | None = Field(default=None, description="Settings of strategy Rule.")


class Exploration(ApiModel):
    """How often something else is tried than what the policy would do."""

    epsilon: float = Field(
        ge=0,
        le=1,
        description=(
            "The probability with which another one of the allowed actions is taken, each as "
            "likely. Not of text policies, and not of what the baseline answers."
        ),
    )


SERVING_RULES = (
    rule(
        "!has(self.mode) || self.mode != 'Hybrid' || has(self.minConfidence)",
        "mode Hybrid needs minConfidence: below it the baseline answers",
    ),
    rule(
        "!has(self.mode) || self.mode != 'Hybrid' || has(self.baseline)",
        "mode Hybrid needs baseline: it answers below minConfidence",
    ),
)


class ServingFields(ApiModel):
    """How decisions are made and given out."""

    mode: Mode | None = Field(
        default=None,
        description=(
            "Who decides. Advisor: a person; the server answers with a ranking. Primary: the "
            "policy. Hybrid: the policy where its confidence is at least minConfidence, else the "
            "baseline. Unset: Primary. It changes in running servers, as do minConfidence, "
            "autoApprove, baseline, exploration and timeoutMilliseconds: no pod is restarted."
        ),
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="In mode Hybrid the policy decides from this confidence on, from 0 to 1.",
    )
    auto_approve: AutoApprove | None = Field(
        default=None,
        description=(
            "Which decisions need no person; answers then say `autoApproved`. What the baseline "
            "answers is never approved, and in mode Advisor nothing is."
        ),
    )
    baseline: Baseline | None = Field(
        default=None,
        description=(
            "What answers when the policy's model fails, breaks its answerSchema or is over "
            "timeoutMilliseconds, and in mode Hybrid below minConfidence. Unset: such a request "
            "fails."
        ),
    )
    exploration: Exploration | None = Field(
        default=None,
        description="How often other actions are tried, so that the log can be learned from.",
    )
    timeout_milliseconds: int | None = Field(
        default=None,
        ge=1,
        le=60_000,
        description=(
            "How long the policy's model may take for an answer, waiting included, in "
            "milliseconds; then the baseline answers, or the request fails with 504. Policies of "
            "tables answer at once, so it limits those of text. Unset: no limit."
        ),
    )

    def serving(self) -> dict[str, Any]:
        """Return these fields, to be handed to another model that has them."""
        return {name: getattr(self, name) for name in ServingFields.model_fields}
