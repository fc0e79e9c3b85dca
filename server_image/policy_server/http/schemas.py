"""The JSON that the HTTP interface answers, as OpenAPI shows it at /docs."""

from typing import Any

from policy_api.base import ApiModel, Metric
from policy_api.contract.artifact import Generation, Kind, ParentArtifact
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.criteria import CriterionVerdict
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.serving import Mode
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.decision import Option
from pydantic import Field

from policy_server.decisions.modes import Source


class ReasonBody(ApiModel):
    """Why an option stands where it stands."""

    text: str = Field(description="For people.")
    feature: str | None = Field(default=None, description="The feature that it is about.")
    value: Any = Field(default=None, description="What the request says of it.")
    effect: float | None = Field(
        default=None, description="What it adds to the option's score, in the score's unit."
    )


def reasons_of(option: Option, *, explain: bool) -> tuple[ReasonBody, ...] | None:
    """Return an option's reasons, if they were asked for."""
    if not explain:
        return None
    return tuple(ReasonBody(**vars(reason)) for reason in option.reasons)


class OptionBody(ApiModel):
    """One entry of a ranking."""

    action: str | None = Field(default=None, description="An action, a class or a plan.")
    answer: str | None = Field(default=None, description="An answer of a text policy.")
    score: float = Field(
        description=(
            "What the ranking is by: Q (CQL), probability (Classifier, ConstrainedPPO, "
            "PlanPreference), reward (RewardModel), mean log-probability of the tokens in nats "
            "(candidates of a text policy)."
        )
    )
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="How likely it is right."
    )
    probability: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="With which it is answered; unset where a person chooses.",
    )
    reasons: tuple[ReasonBody, ...] | None = Field(
        default=None, description="Set when `explain` asks for them."
    )

    @classmethod
    def of(cls, option: Option, *, text: bool, explain: bool) -> "OptionBody":
        """Return an option as JSON shows it.

        Args:
            option: What to show.
            text: It is an answer.
            explain: Show its reasons.
        """
        return cls(
            **{"answer" if text else "action": option.action},
            score=option.score,
            confidence=option.confidence,
            probability=option.probability,
            reasons=reasons_of(option, explain=explain),
        )


class DecisionResponse(ApiModel):
    """One decision."""

    decision_id: str = Field(description="Names this decision in logs and feedback.")
    policy: str = Field(description="The policy that answered.")
    version: int = Field(description="Its version.")
    mode: Mode = Field(
        description=(
            "Who decides: Advisor (a person, by the ranking), Primary (the policy) or Hybrid (the "
            "policy where it is sure enough, else the baseline)."
        )
    )
    source: Source = Field(
        description="Whose answer it is: policy, or baseline where the policy failed or was unsure."
    )
    action: str | None = Field(
        default=None,
        description="What to do, the class, or the plan; unset in mode Advisor.",
    )
    sequence: tuple[str, ...] | None = Field(
        default=None, description="The actions in their order, where `action` is a sequence."
    )
    answer: str | None = Field(
        default=None,
        description=(
            "A text policy's answer; it keeps the policy's answer schema. Unset in mode Advisor, "
            "where the ranking has it."
        ),
    )
    auto_approved: bool | None = Field(
        default=None,
        description=(
            "Whether it may be done without a person; set where the deployment says which "
            "decisions may, and in mode Advisor, where none may."
        ),
    )
    fields: dict[str, Any] | None = Field(
        default=None,
        description=(
            "What the answer says, as `answerSchema.fields` of the policy declares it. Each entry "
            "of a list that has declared `items` has an `id` of its own."
        ),
    )
    confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=(
            "How likely it is right. CQL: how often an action whose Q is so far above the others' "
            "succeeded in held-out decisions. Classifier and PlanPreference: the probability. "
            "ConstrainedPPO: the policy's own probability of the action. RewardModel: that it is "
            "the best of the candidates. Text: the field that `answerSchema.confidence` names, "
            "else the mean probability that the model gave to its answer's tokens. A baseline "
            "that knows how often an action succeeded says that."
        ),
    )
    propensity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=(
            "The probability with which this version answers with what it answered, exploration "
            "and baseline included. Unset in mode Advisor, and of answers that were sampled."
        ),
    )
    ranking: tuple[OptionBody, ...] | None = Field(
        default=None,
        description=(
            "The best options, the best first; of an answer that was generated in mode Advisor "
            "alone."
        ),
    )
    unseen: tuple[str, ...] | None = Field(
        default=None, description="Features with a category that the training data did not have."
    )
    tokens: int | None = Field(default=None, ge=0, description="Length of the answer, in tokens.")
    latency_seconds: float = Field(ge=0, description="Time in the server, waiting included.")


class TokenBody(ApiModel):
    """An event of a streamed decision: some of an answer, as it was written."""

    text: str = Field(description="To be put behind what came before.")


class ScoreBody(ApiModel):
    """What one candidate scored."""

    index: int = Field(ge=0, description="Its place in `candidates`.")
    score: float = Field(description="The higher the better; see `score` of a decision's ranking.")
    confidence: float | None = Field(default=None, ge=0, le=1, description="See a decision's.")
    reasons: tuple[ReasonBody, ...] | None = Field(
        default=None, description="Set when `explain` asks for them."
    )


class ScoresResponse(ApiModel):
    """The candidates, the best first."""

    decision_id: str = Field(description="Names this ranking in logs and feedback.")
    policy: str = Field(description="The policy that answered.")
    version: int = Field(description="Its version.")
    scores: tuple[ScoreBody, ...] = Field(description="One a candidate, the best first.")
    latency_seconds: float = Field(ge=0, description="Time in the server, waiting included.")


class ErrorBody(ApiModel):
    """What went wrong."""

    code: str = Field(description="One CamelCase word for programs.")
    message: str = Field(description="One sentence that says what to change.")


class ErrorResponse(ApiModel):
    """The body of every answer whose status is not 2xx."""

    error: ErrorBody = Field(description="What went wrong.")
    policy: str = Field(description="The policy that was asked.")
    version: int = Field(description="Its version.")
    decision_id: str | None = Field(default=None, description="Set when a decision failed.")


class PolicyResponse(ApiModel):
    """The version that serves here."""

    policy: str = Field(description="The policy's name.")
    version: int = Field(description="Its number.")
    sha256: str = Field(description="Checksum of its policy.json.")
    tag: str | None = Field(default=None, description="Experiment label.")
    recipe: Recipe = Field(description="How it was trained.")
    kind: Kind = Field(description="What it is.")
    inputs: dict[str, Any] = Field(description="What a decision is asked with.")
    training: dict[str, str] = Field(description="namespace, name, uid of its PolicyTraining.")
    parent: ParentArtifact | None = Field(default=None, description="What it was trained from.")
    metrics: tuple[Metric, ...] = Field(description="Final metrics of its training.")
    exit_criteria: tuple[CriterionVerdict, ...] = Field(description="Verdicts of its training.")
    answer_schema: AnswerSchema = Field(description="What a valid answer looks like.")
    generation: Generation = Field(description="How answers are generated.")
    serving: ServingConfig = Field(
        description="What is in force of mode, baseline, exploration and timeout; unset: defaults."
    )
    serving_problems: tuple[str, ...] | None = Field(
        default=None,
        description="What this version can't do of what its deployment says, a sentence each.",
    )
