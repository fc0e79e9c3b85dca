"""A user's own paths to a server: which of its calls they are, with which fields.

What is sent and what is answered is moved, never computed: a field has a place in the one and a
place in the other, both as JSON pointers (RFC 6901). There is no language of expressions.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from policy_api.base import DNS_LABEL, ApiModel, list_map, rule, rules
from policy_api.v1alpha1.serving import ActionName

RESERVED = ("/v1", "/metrics", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json")
"""What servers have themselves, each with all that is below it."""
MOST_ROUTES = 8  # an HTTPRoute has 16 rules at most, and each path below a prefix is one of them
_STEP = "([^/~]|~[01])"

Pointer = Annotated[str, Field(max_length=256, pattern=rf"^(/{_STEP}*)*$")]
FieldPointer = Annotated[str, Field(max_length=256, pattern=rf"^(/{_STEP}+)+$")]
RoutePath = Annotated[str, Field(max_length=128, pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$")]


class Call(StrEnum):
    """What a server can be asked."""

    DECISIONS = "/v1/decisions"
    SCORES = "/v1/scores"
    FEEDBACK = "/v1/feedback"
    OUTCOME = "/v1/decisions/{id}/outcome"


class QueryType(StrEnum):
    """What the text of a query parameter is read as."""

    STRING = "String"
    INTEGER = "Integer"
    NUMBER = "Number"
    BOOLEAN = "Boolean"


class RequestField(ApiModel):
    """Where one field of the call comes from."""

    model_config = rules(
        rule("has(self.from) != has(self.query)", "set exactly one of from, query"),
        rule(
            "!has(self.type) || has(self.query)",
            "type is for query: what from names has its type in the body",
        ),
    )

    to: FieldPointer = Field(
        description=(
            "Place in the call's body, as a JSON pointer: /state, /state/tenure, /topK. The id of "
            "/v1/decisions/{id}/outcome is /id."
        )
    )
    source: Pointer | None = Field(
        default=None,
        alias="from",
        description="Place in the body that was sent, as a JSON pointer; empty: the whole body.",
    )
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Name of a parameter of the query, sent once at most."
    )
    type: QueryType | None = Field(
        default=None, description="What the query's text is read as; unset: String."
    )


class ResponseField(ApiModel):
    """Where one field of the answer comes from."""

    to: FieldPointer = Field(
        description="Place in what is answered, as a JSON pointer, e.g. /offer."
    )
    source: Pointer = Field(
        alias="from",
        description=(
            "Place in the call's answer, as a JSON pointer: /action, /ranking/0/confidence, and "
            "with `then` /then/answer. What the answer lacks is left out."
        ),
    )


class SpokenAction(ApiModel):
    """An action of the first policy, in the second one's words."""

    name: ActionName = Field(description="Name of the action.")
    text: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None,
        description=(
            "What {action} of the prompt is then; unset: the name. A text policy that learned "
            "`10 %` does not know what `offer 0.1` is."
        ),
    )


class Then(ApiModel):
    """A second policy that is asked with the first one's answer."""

    deployment: str = Field(
        pattern=DNS_LABEL,
        max_length=40,
        description=(
            "The PolicyDeployment in the same namespace whose stable version is asked, at "
            "/v1/decisions."
        ),
    )
    actions: list[SpokenAction] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "Actions of the first after which the second is asked; unset: all. After another one "
            "the first answers alone, without an error."
        ),
        json_schema_extra=list_map("name"),
    )
    prompt: str = Field(
        min_length=1,
        max_length=8192,
        description=(
            "What it is asked. {action} is a field of the first answer, {ranking/0/confidence} one "
            "inside of it, {request/state/tenure} one of what the first was asked. A place that is "
            "not there, as {action} in mode Advisor, leaves the second unasked."
        ),
    )
    timeout_milliseconds: int = Field(
        default=5000,
        ge=1,
        le=60_000,
        description=(
            "How long the second may take, in milliseconds. Then the first answers alone, and the "
            "answer's `then.error` says so."
        ),
    )


class Route(ApiModel):
    """One path of the user's own."""

    model_config = rules(
        rule(
            f"{list(RESERVED)}.all(p, self.path != p && !self.path.startsWith(p + '/'))",
            f"path must be none of the server's own ({', '.join(RESERVED)}), nor below one of them",
        ),
        rule(
            "!has(self.then) || self.to == '/v1/decisions'",
            "then follows a decision: set to to /v1/decisions, or remove then",
        ),
        rule(
            "self.to != '/v1/decisions/{id}/outcome' "
            "|| has(self.request) && self.request.exists(f, f.to == '/id')",
            "an outcome belongs to a decision: say in request where its id comes from, with to: "
            "/id",
        ),
    )

    path: RoutePath = Field(
        description=(
            "The path, below traffic.path, for POST: /retain. It can't be one of the server's own."
        )
    )
    to: Call = Field(
        description=(
            "The call that it is: /v1/decisions, /v1/scores, /v1/feedback or "
            "/v1/decisions/{id}/outcome."
        )
    )
    request: list[RequestField] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "What of the request becomes what of the call, in this order. What none of them names "
            "is refused as an unknown field. Unset: the body is the call's."
        ),
        json_schema_extra=list_map("to"),
    )
    defaults: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Fields of the call's body where the request says nothing, e.g. {topK: 1}. A field "
            "that request does not name can't be changed by a caller."
        ),
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    response: list[ResponseField] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "What of the call's answer is answered. Unset: all of it. Errors are answered as the "
            "call does."
        ),
        json_schema_extra=list_map("to"),
    )
    then: Then | None = Field(
        default=None,
        description="A second policy that is asked after the decision; both have one runId.",
    )
