"""What every shape of the API shares: camelCase on the wire, no misspelt fields, CEL rules."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
SHA256 = r"^[0-9a-f]{64}$"


def rfc3339(value: datetime) -> str:
    """Format a time as Kubernetes does: UTC, whole seconds, `Z`."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class ApiModel(BaseModel):
    """A part of a resource: snake_case here, camelCase in YAML.

    Unknown fields are refused, as what a person types may be misspelt. What another program wrote
    is read by `policy_api.skew`, which ignores them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # A model's docstring is its field's description in `kubectl explain`.
        use_attribute_docstrings=False,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form that the API server stores: camelCase, no nulls."""
        # No warnings: a value that only a newer version knows is written as it was read (skew.py).
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)


def rule(expression: str, message: str, **extra: str) -> dict[str, str]:
    """Build one entry of `x-kubernetes-validations`.

    Args:
        expression: CEL over `self` (and `oldSelf` for a transition rule).
        message: The sentence that the user reads; it says what to change.
        extra: `fieldPath`, `reason`, `messageExpression`.
    """
    return {"rule": expression, "message": message, **extra}


_OLD_OBJECT = "oldSelf.hasValue() || "


def on_creation(expression: str, message: str, field: str) -> dict[str, Any]:
    """Build a rule over a whole object that is judged when it is created, and never again.

    What was stored before the rule was made can still be changed: its name never can.

    Args:
        expression: CEL over `self`, which has `metadata.name`.
        message: The sentence that the user reads.
        field: The field that the sentence is about, e.g. `.metadata.name`.
    """
    return {
        "rule": f"{_OLD_OBJECT}({expression})",
        "message": message,
        "fieldPath": field,
        "optionalOldSelf": True,
    }


def new_object_rule(entry: dict[str, Any]) -> str:
    """Return the CEL that a rule made by `on_creation` asks of a new object."""
    expression: str = entry["rule"]
    return expression.removeprefix(_OLD_OBJECT)


def rules(*items: dict[str, str]) -> ConfigDict:
    """Return a model config that carries CEL rules for the model's own schema."""
    extra: dict[str, Any] = {"x-kubernetes-validations": list(items)}
    return ConfigDict(json_schema_extra=extra)


def list_map(*keys: str) -> dict[str, Any]:
    """Return the schema extras of a list that server-side apply merges by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def immutable(fields: Sequence[str], noun: str) -> list[dict[str, str]]:
    """Return transition rules: each of these fields keeps what it was created with.

    An optional field must stay absent or stay equal, since `oldSelf.x` of an absent x is an error.
    """
    return [
        rule(
            f"has(self.{name}) == has(oldSelf.{name}) && "
            f"(!has(self.{name}) || self.{name} == oldSelf.{name})",
            f"{name} can't be changed after creation: create a new {noun}",
        )
        for name in fields
    ]


class Condition(ApiModel):
    """A `metav1.Condition`."""

    type: str = Field(max_length=316, description="What the condition is about, in CamelCase.")
    status: str = Field(
        description="Status of the condition: True, False or Unknown.",
        json_schema_extra={"enum": ["True", "False", "Unknown"]},
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this was judged for."
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        description="Why, as one CamelCase word for tools.",
    )
    message: str = Field(
        default="", max_length=32768, description="Why the status is what it is, as a sentence."
    )


CONDITIONS_EXTRA = list_map("type")


class Metric(ApiModel):
    """One reported number, with its interval where the trainer could state one."""

    name: str = Field(min_length=1, max_length=63, description="Name of the metric, snake_case.")
    value: float = Field(description="The observed value.")
    low: float | None = Field(default=None, description="Lower end of the interval.")
    high: float | None = Field(default=None, description="Upper end of the interval.")
    confidence: float | None = Field(
        default=None, gt=0, lt=1, description="Confidence of the interval; unset: 0.95."
    )
    step: int | None = Field(default=None, ge=0, description="Training step of the observation.")


class ObjectMeta(BaseModel):
    """The part of `metav1.ObjectMeta` that decisions read."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
