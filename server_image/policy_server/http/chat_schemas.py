"""The JSON of POST /v1/chat/completions: OpenAI's names, of which this server knows a part."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from policy_api.contract.artifact import Generation
from policy_models.decision import Question, Turn
from policy_models.requests import MAX_CHARACTERS
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

JUDGED = "this policy answers as it was judged"
# What clients may say that changes nothing here, and the one value of each that does so.
NEUTRAL: dict[str, Any] = {
    "n": 1,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "stop": [],
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
}


def _without_nulls(value: Any) -> Any:
    """Leave out what is null: clients send back messages with every field that they know."""
    if isinstance(value, Mapping):
        return {name: part for name, part in value.items() if part is not None}
    return value


def _text(value: Any) -> Any:
    """Return the text of a message's content, which may be a list of parts."""
    if not isinstance(value, list):
        return value
    text = ""
    for part in value:
        known = isinstance(part, Mapping) and part.get("type") == "text"
        if not known or not isinstance(part.get("text"), str):
            raise ValueError("content must be a string, or a list of parts of type text")
        text += part["text"]
    return text


class ChatModel(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ChatMessage(ChatModel):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who said it.")
    content: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)], BeforeValidator(_text)
    ] = Field(description="A text, or a list of parts of type text.")
    name: str | None = Field(default=None, description="Not read.")

    def turn(self) -> Turn:
        """Return it as a policy takes it."""
        return Turn("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(ChatModel):
    """How an answer is streamed."""

    include_usage: bool = Field(default=False, description="A last chunk has `usage`.")
    include_obfuscation: bool = Field(default=False, description="Not read.")


class ChatRequest(ChatModel):
    """A conversation to answer. How is fixed: see `max_tokens` and `temperature`."""

    model: str = Field(max_length=256, description="The policy's name.")
    messages: list[Annotated[ChatMessage, BeforeValidator(_without_nulls)]] = Field(
        min_length=1, max_length=256, description="The last is the user's."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="At least the policy's `generation.maxNewTokens`: it is not shortened.",
    )
    max_completion_tokens: int | None = Field(default=None, ge=1, description="As max_tokens.")
    temperature: float | None = Field(
        default=None, ge=0, description="The policy's `generation.temperature`, if any."
    )
    seed: int | None = Field(
        default=None, description="Without effect; refused where answers are sampled."
    )
    stream: bool = Field(default=False, description="Send chunks as the answer is written.")
    stream_options: StreamOptions | None = Field(default=None, description="With `stream`.")
    n: Any = Field(default=None, description="1, if any; as the other fields below.")
    top_p: Any = Field(default=None, description="1, if any.")
    frequency_penalty: Any = Field(default=None, description="0, if any.")
    presence_penalty: Any = Field(default=None, description="0, if any.")
    logit_bias: Any = Field(default=None, description="{}, if any.")
    logprobs: Any = Field(default=None, description="false, if any.")
    stop: Any = Field(default=None, description="[], if any.")
    tools: Any = Field(default=None, description="[], if any.")
    tool_choice: Any = Field(default=None, description="none, if any.")
    response_format: Any = Field(default=None, description="Of type text, if any.")
    user: Any = Field(default=None, description="Not read.")
    metadata: Any = Field(default=None, description="Not read.")
    store: Any = Field(default=None, description="Not read.")
    service_tier: Any = Field(default=None, description="Not read.")
    safety_identifier: Any = Field(default=None, description="Not read.")
    parallel_tool_calls: Any = Field(default=None, description="Not read.")

    @model_validator(mode="after")
    def _users_turn(self) -> Self:
        if self.messages[-1].role != "user":
            raise ValueError("the last of messages must have role user")
        return self

    def question(self) -> Question:
        """Return what a text policy is asked; one message alone is a prompt as in training."""
        if len(self.messages) == 1:
            return Question(prompt=self.messages[0].content)
        return Question(turns=tuple(message.turn() for message in self.messages))

    def fault(self, generation: Generation) -> tuple[str, str] | None:
        """Return what asks for other answers than were judged: its name, and a sentence."""
        for name, value in NEUTRAL.items():
            if getattr(self, name) not in (None, value):
                return name, f"{name} must be left out: {JUDGED}"
        for name in ("max_tokens", "max_completion_tokens"):
            most = getattr(self, name)
            if most is not None and most < generation.max_new_tokens:
                longest = generation.max_new_tokens
                return name, f"{name} must be at least {longest}, or left out: {JUDGED}"
        if self.temperature not in (None, generation.temperature):
            wanted = f"{generation.temperature:g}"
            return "temperature", f"temperature must be {wanted}, or left out: {JUDGED}"
        if self.seed is not None and generation.temperature > 0:
            return "seed", "seed must be left out: this policy draws each answer anew"
        return None


Reason = Literal["stop", "length"]


class Usage(BaseModel):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Said(BaseModel):
    """A message, or what a chunk adds to it."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: Said
    finish_reason: Reason


class ChunkChoice(BaseModel):
    """What a chunk adds to the one answer."""

    index: int = 0
    delta: Said
    finish_reason: Reason | None = None


class Completion(BaseModel):
    """An answer."""

    id: str = Field(description="The decision's id, which names it in logs and feedback.")
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="The policy's name.")
    system_fingerprint: str = Field(description="Its version, as `v3`.")
    choices: tuple[Choice, ...]
    usage: Usage


class Chunk(BaseModel):
    """A part of an answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class ChatErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="One sentence that says what to change.")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(default=None, description="The field at fault.")
    code: str | None = Field(default=None, description="One word for programs.")


class ChatError(BaseModel):
    """The body of every answer whose status is not 2xx."""

    error: ChatErrorBody
