"""What may be asked, as JSON: over HTTP and on a command line, judged by the same models. Pure."""

from typing import Annotated, Any, Literal, Self

from policy_api.base import ApiModel
from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from policy_models.decision import Question, Request, Turn

MAX_CHARACTERS = 100_000  # of one text; a prompt's real limit is the model's context
MAX_CANDIDATES = 1000


class RequestModel(ApiModel):
    """A part of a request: strict, so that 1 is not taken for "1"."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, populate_by_name=False
    )


class Message(RequestModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"] = Field(description="Who said it.")
    content: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="What was said.")


class Asked(RequestModel):
    """What is asked: the fields that decisions and scores share."""

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
    explain: bool = Field(default=False, description="Whether options come with reasons.")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.prompt is not None and self.messages is not None:
            raise ValueError("set only one of prompt and messages")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last of messages must have role user")
        return self

    def question(self) -> Question | None:
        """Return what a text policy is asked."""
        if self.prompt is None and self.messages is None:
            return None
        turns = tuple(Turn(message.role, message.content) for message in self.messages or ())
        return Question(self.prompt, turns)


Candidates = Annotated[
    list[Annotated[str, Field(max_length=MAX_CHARACTERS)]],
    Field(min_length=1, max_length=MAX_CANDIDATES),
]


class DecisionRequest(Asked):
    """One of `state`, `prompt`, `messages`, or `candidates` alone: GET /v1/policy says which."""

    state: dict[str, Any] | None = Field(
        default=None, description="What is known, by feature; null where it is not known."
    )
    candidates: Candidates | None = Field(
        default=None, description="Choose among these actions, plans or answers; unset: among all."
    )
    top_k: int = Field(
        default=3, ge=1, le=100, description="How many options the ranking has at most."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        asked = {"state": self.state, "prompt": self.prompt, "messages": self.messages}
        found = [name for name, value in asked.items() if value is not None]
        if len(found) > 1:
            raise ValueError(f"set only one of {' and '.join(found)}")
        if not found and self.candidates is None:
            raise ValueError("set exactly one of state, prompt and messages, or candidates")
        return self

    def request(self) -> Request:
        """Return what the policy is asked."""
        candidates = None if self.candidates is None else tuple(self.candidates)
        return Request(self.state, self.question(), candidates, self.explain)


class ScoresRequest(Asked):
    """Candidates to rank, with the prompt that they answer where the policy needs one."""

    candidates: Candidates = Field(description="Plans or answers.")

    def request(self) -> Request:
        """Return what the policy is asked."""
        return Request(None, self.question(), tuple(self.candidates), self.explain)
