"""What a trainer tells the operator when it ends: its termination message."""

import json
import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from policy_api.base import SHA256, ApiModel, Metric
from policy_api.contract import bounds
from policy_api.contract.environment import TERMINATION_LIMIT
from policy_api.contract.versions import load
from policy_api.keys import (
    EXIT_CONFIG_INVALID,
    EXIT_DATA_INVALID,
    EXIT_OUT_OF_MEMORY,
    EXIT_PREEMPTED,
    EXIT_SUCCEEDED,
    EXIT_TRAINER_FAILED,
)
from policy_api.v1alpha1.store import URI

SCHEMA_VERSION = 1
SENTENCE = 200  # characters of a message that still say what is wrong
FIELD = 128  # characters that still name a field or a row

_Count = Annotated[int | None, BeforeValidator(bounds.count)]
_Text = Annotated[str, BeforeValidator(bounds.text(TERMINATION_LIMIT, ""))]
_TextOrNone = Annotated[str | None, BeforeValidator(bounds.text(TERMINATION_LIMIT))]


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "Completed"
    PREEMPTED = "Preempted"
    DATA_INVALID = "DataInvalid"
    CONFIG_INVALID = "ConfigInvalid"
    OUT_OF_MEMORY = "OutOfMemory"
    TRAINER_FAILED = "TrainerFailed"


EXIT_CODES: dict[Outcome, int] = {
    Outcome.COMPLETED: EXIT_SUCCEEDED,
    Outcome.PREEMPTED: EXIT_PREEMPTED,
    Outcome.DATA_INVALID: EXIT_DATA_INVALID,
    Outcome.CONFIG_INVALID: EXIT_CONFIG_INVALID,
    Outcome.OUT_OF_MEMORY: EXIT_OUT_OF_MEMORY,
    Outcome.TRAINER_FAILED: EXIT_TRAINER_FAILED,
}


class ReportedArtifact(ApiModel):
    """The artifact that the attempt wrote."""

    uri: str = Field(pattern=URI, max_length=1024, description="Public URI of its folder.")
    sha256: str = Field(pattern=SHA256, description="Checksum of its policy.json.")
    version: int = Field(
        ge=1, le=bounds.VERSION, description="The number whose folder the trainer claimed."
    )


class TrainingReport(ApiModel):
    """The termination message of one trainer pod: JSON of at most 4,096 bytes.

    Numbers and names that the API has no room for are clamped or left out: what a trainer says of
    its end must not hinder anybody from acting on it.
    """

    schema_version: int | None = Field(
        default=None, ge=1, description="Version of this shape; unset: 1."
    )
    outcome: Outcome = Field(description="How the attempt ended.")
    message: _Text = Field(
        default="", description="A sentence: what went wrong and what to change."
    )
    field: _TextOrNone = Field(default=None, description="The spec field or data row at fault.")
    step: _Count = Field(default=None, ge=0, description="Optimizer steps done.")
    max_steps: _Count = Field(default=None, ge=0, description="Optimizer steps of the whole run.")
    resumed_from_step: _Count = Field(
        default=None, ge=0, description="Step of the checkpoint that the attempt started from."
    )
    metrics: Annotated[tuple[Metric, ...], BeforeValidator(bounds.metrics)] = Field(
        default=(), description="Final metrics (rank 0)."
    )
    artifact: ReportedArtifact | None = Field(default=None, description="What rank 0 wrote.")

    def encode(self) -> str:
        """Return the JSON; what does not fit is cut, what a person needs least first.

        The order: the message beyond a sentence, the last metrics, the field, the whole message.
        """
        report = self
        while (excess := len(_json(report)) - TERMINATION_LIMIT) > 0:
            if len(report.message) > SENTENCE:
                keep = max(SENTENCE, len(report.message) - excess - 1)
                report = report.model_copy(update={"message": report.message[:keep]})
            elif report.metrics:
                report = report.model_copy(update={"metrics": report.metrics[:-1]})
            elif report.field and len(report.field) > FIELD:
                report = report.model_copy(update={"field": report.field[:FIELD]})
            elif report.message:
                report = report.model_copy(update={"message": ""})
            else:
                raise ValueError(f"the report's artifact does not fit in {TERMINATION_LIMIT} bytes")
        return _json(report).decode()


def _json(report: TrainingReport) -> bytes:
    return json.dumps(report.to_wire(), separators=(",", ":")).encode()


def finite(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Return the metrics that JSON can carry: a diverged run reports NaN, the API has no such."""
    kept = (m for m in metrics if math.isfinite(m.value))
    return tuple(
        m.model_copy(
            update={end: None for end in ("low", "high") if not math.isfinite(getattr(m, end) or 0)}
        )
        for m in kept
    )


def decode(text: str) -> TrainingReport | None:
    """Read a termination message; None when it is not a report (e.g. written by the kubelet).

    A newer trainer's fields are ignored, and an outcome that only it knows is a failure. An
    artifact that could not be recorded is none: the message says what is wrong with it.
    """
    try:
        wire = load(text, SCHEMA_VERSION, "the report", "upgrade the operator")
        said = wire.get("outcome")
        if isinstance(said, str) and said not in set(Outcome):
            wire = {**wire, "outcome": Outcome.TRAINER_FAILED}
        return _validated(wire)
    except ValueError:
        return None


def _validated(wire: dict[str, Any]) -> TrainingReport:
    try:
        return TrainingReport.model_validate(wire, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][:1] != ("artifact",):
            raise
        where = ".".join(str(part) for part in first["loc"])
        told = {"artifact": None, "message": f"{where}: {first['msg']}"}
        return TrainingReport.model_validate({**wire, **told}, extra="ignore")
