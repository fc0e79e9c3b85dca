"""The JSON of what is kept: decisions with what came of them, as OpenAPI shows it at /docs."""

from typing import Any, Literal

from policy_api.base import ApiModel
from pydantic import Field

Label = Literal["Positive", "Negative"]


class OutcomeResponse(ApiModel):
    """An outcome is kept."""

    decision_id: str = Field(description="The decision that it is of.")


class FeedbackResponse(ApiModel):
    """Feedback is kept."""

    feedback_id: str = Field(description="Names it; the same words again have the same.")
    label: Label | None = Field(default=None, description="What it comes to, if it says so.")


class OutcomeBody(ApiModel):
    """What came of a decision, as far as it is known."""

    at: str = Field(description="When the first of it arrived.")
    reward: float | None = Field(default=None, description="How good it was.")
    success: bool | None = Field(default=None, description="Whether it did what it was to do.")
    followed: bool | None = Field(default=None, description="Whether it was carried out.")
    next_state: Any = Field(default=None, description="What was known afterwards.")
    done: bool | None = Field(default=None, description="Whether a sequence ended with it.")
    caller: str | None = Field(default=None, description="Who said so.")


class FeedbackBody(ApiModel):
    """What a person said."""

    feedback_id: str = Field(description="Names it.")
    at: str = Field(description="When it arrived.")
    decision_id: str | None = Field(default=None, description="The decision that it is about.")
    run_id: str | None = Field(default=None, description="The run that it is about.")
    text: str | None = Field(default=None, description="In a person's words.")
    tags: tuple[str, ...] = Field(default=(), description="Short words.")
    label: Label | None = Field(default=None, description="What it comes to.")
    corrected_action: str | None = Field(default=None, description="What it should have been.")
    caller: str | None = Field(default=None, description="Who said so.")


class RecordResponse(ApiModel):
    """A decision as it is kept, with what came of it; what was redacted is a hash."""

    decision_id: str = Field(description="Names the decision.")
    at: str = Field(description="When it was asked for.")
    policy: str = Field(description="The policy that answered.")
    version: int = Field(description="Its version.")
    role: str = Field(description="Under which it was asked: stable, candidate or direct.")
    weight: int | None = Field(
        default=None, description="The version's share of the traffic then, in percent."
    )
    mode: str = Field(description="Who decided: Advisor, Primary or Hybrid.")
    source: str = Field(description="Whose answer it is: policy or baseline.")
    valid: bool = Field(description="Whether the policy itself had an answer to give.")
    failure: str | None = Field(default=None, description="Why it had none.")
    run_id: str | None = Field(default=None, description="Of the request.")
    request_id: str | None = Field(default=None, description="Its header x-request-id.")
    caller: str | None = Field(default=None, description="Who asked.")
    state: Any = Field(default=None, description="Of the request.")
    prompt: Any = Field(default=None, description="Of the request: a text, or messages.")
    candidates: Any = Field(default=None, description="Of the request.")
    context: Any = Field(default=None, description="Of the request.")
    ranking: Any = Field(default=None, description="The best options; not of generated answers.")
    action: str | None = Field(default=None, description="What was decided.")
    answer: str | None = Field(default=None, description="What a text policy answered.")
    fields: Any = Field(default=None, description="What the answer says.")
    propensity: float | None = Field(
        default=None, description="The probability with which this version answers so."
    )
    confidence: float | None = Field(default=None, description="How likely it is right.")
    auto_approved: bool | None = Field(default=None, description="Whether it needed no person.")
    unseen: Any = Field(default=None, description="Features with a category new to the policy.")
    tokens: int | None = Field(default=None, description="Length of a generated answer.")
    latency_seconds: float = Field(description="Time in the server, waiting included.")
    outcome: OutcomeBody | None = Field(default=None, description="What came of it.")
    feedback: tuple[FeedbackBody, ...] = Field(default=(), description="What people said of it.")
