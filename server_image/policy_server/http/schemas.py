"""The JSON of the HTTP interface, as OpenAPI shows it at /docs."""

from typing import Literal

from policy_api.base import ApiModel, Metric
from policy_api.contract.artifact import Generation, ParentArtifact
from policy_api.v1alpha1.criteria import CriterionVerdict
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.text.conversation import Question, Turn
from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MAX_CHARACTERS = 100_000  # of one text; a prompt's real limit is the model's context


class RequestModel(ApiModel):
    """A part of a request: strict, so that 1 is not taken for "1"."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, populate_by_name=False
    )


class Message(RequestModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"] = Field(description="Who said it.")
    content: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="What was said.")


class DecisionRequest(RequestModel):
    """Exactly one of `prompt` and `messages`."""

    prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="What is asked; the policy's own template is put around it.",
    )
    messages: list[Message] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="A conversation whose last message is the user's.",
    )

    @model_validator(mode="after")
    def _one_question(self) -> "DecisionRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("set exactly one of prompt and messages")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last of messages must have role user")
        return self

    def question(self) -> Question:
        """Return what the engine is asked."""
        turns = tuple(Turn(message.role, message.content) for message in self.messages or ())
        return Question(self.prompt, turns)


class DecisionResponse(ApiModel):
    """One answer."""

    decision_id: str = Field(description="Names this decision in logs and feedback.")
    policy: str = Field(description="The policy that answered.")
    version: int = Field(description="Its version.")
    answer: str = Field(description="The answer; it keeps the policy's answer schema.")
    confidence: float = Field(
        ge=0, le=1, description="Mean probability that the model gave to its answer's tokens."
    )
    tokens: int = Field(ge=0, description="Length of the answer, in tokens.")
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
    training: dict[str, str] = Field(description="namespace, name, uid of its PolicyTraining.")
    parent: ParentArtifact | None = Field(default=None, description="What it was trained from.")
    metrics: tuple[Metric, ...] = Field(description="Final metrics of its training.")
    exit_criteria: tuple[CriterionVerdict, ...] = Field(description="Verdicts of its training.")
    answer_schema: AnswerSchema = Field(description="What a valid answer looks like.")
    generation: Generation = Field(description="How answers are generated.")
