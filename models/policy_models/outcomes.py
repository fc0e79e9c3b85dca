"""What may be said of a decision afterwards, as JSON: over HTTP and on a command line. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from policy_models import feedback
from policy_models.requests import MAX_CHARACTERS, RequestModel, RunId

UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
POSITIVE: Literal["Positive"] = "Positive"
NEGATIVE: Literal["Negative"] = "Negative"
Finite = Annotated[float, Field(ge=-1e15, le=1e15)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class OutcomeRequest(RequestModel):
    """What came of a decision. It may come in parts: a later value of a field replaces it."""

    reward: Finite | None = Field(default=None, description="How good it was, the more the better.")
    success: bool | None = Field(default=None, description="Whether it did what it was to do.")
    followed: bool | None = Field(
        default=None, description="Whether the decision was carried out as it was answered."
    )
    next_state: dict[str, Any] | None = Field(
        default=None, description="What was known afterwards, by feature, for sequences."
    )
    done: bool | None = Field(default=None, description="Whether the sequence ended with it.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set or all(v is None for _, v in self):
            raise ValueError("set at least one of reward, success, followed, nextState and done")
        return self


class FeedbackRequest(RequestModel):
    """What a person says of a decision, or of a run of several."""

    id: str | None = Field(
        default=None,
        pattern=UUID,
        description=(
            "Names this feedback, so that it may be sent again. Unset: what says the same of the "
            "same is one."
        ),
    )
    decision_id: str | None = Field(
        default=None, pattern=UUID, description="The decision that it is about."
    )
    run_id: RunId | None = Field(
        default=None, description="The run whose decisions it is about; it counts for the last."
    )
    text: str | None = Field(
        default=None, min_length=1, max_length=MAX_CHARACTERS, description="In a person's words."
    )
    tags: Tag | list[Tag] | None = Field(
        default=None, description="Short words, such as pos or neg; one, or a list."
    )
    label: Literal["Positive", "Negative"] | None = Field(
        default=None, description="What it comes to; unset: the keywords in text and tags say it."
    )
    corrected_action: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="The action, plan or answer that it should have been.",
    )

    @model_validator(mode="after")
    def _about_something(self) -> Self:
        if (self.decision_id is None) == (self.run_id is None):
            raise ValueError("set exactly one of decisionId and runId")
        if all(v is None for v in (self.text, self.tags, self.label, self.corrected_action)):
            raise ValueError("set at least one of text, tags, label and correctedAction")
        return self

    def tag_list(self) -> tuple[str, ...]:
        """Return the tags."""
        tags = self.tags or []
        return (tags,) if isinstance(tags, str) else tuple(tags)

    def meaning(
        self, positive: Sequence[str], negative: Sequence[str]
    ) -> Literal["Positive", "Negative"] | None:
        """Return the label: the one that is set, else what the keywords say; see feedback.label."""
        if self.label is not None:
            return self.label
        found = feedback.label(self.text or "", self.tag_list(), positive, negative)
        return None if found is None else POSITIVE if found else NEGATIVE
