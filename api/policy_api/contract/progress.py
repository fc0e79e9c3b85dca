"""What a trainer tells the operator while it runs: Kubeflow Trainer's KEP-2779."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from policy_api.contract import bounds


class _Lenient(BaseModel):
    """KEP-2779 belongs to others: fields that we do not know are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class ReportedMetric(_Lenient):
    """One metric of a progress report; KEP-2779 sends its value as a string."""

    name: str
    value: float


class TrainerStatus(_Lenient):
    """The body's `trainerStatus` of Kubeflow Trainer's KEP-2779."""

    progress_percentage: int | None = Field(default=None, ge=0, le=100)
    estimated_remaining_seconds: Annotated[
        int | None, BeforeValidator(bounds.at_most(bounds.SECONDS))
    ] = Field(default=None, ge=0)
    metrics: tuple[ReportedMetric, ...] = ()
    last_updated_time: datetime | None = None


class ProgressReport(_Lenient):
    """The body of a progress POST."""

    trainer_status: TrainerStatus


def parse_progress(body: bytes) -> ProgressReport:
    """Read a progress POST.

    Raises:
        ValueError: the body is not a KEP-2779 report; the sentence says why.
    """
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(str(p) for p in first["loc"]) or "body"
        raise ValueError(f"{where}: {first['msg']}") from error
