"""A PolicyTraining's status: what has become of it."""

from pydantic import Field

from policy_api.base import (
    CONDITIONS_EXTRA,
    ApiModel,
    Condition,
    Metric,
    Time,
    list_map,
)
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.criteria import CriterionVerdict


class Progress(ApiModel):
    """How far the run is, as the trainer last reported."""

    percent: int | None = Field(default=None, ge=0, le=100, description="Part done, in percent.")
    step: int | None = Field(default=None, ge=0, description="Optimizer steps done.")
    max_steps: int | None = Field(
        default=None, ge=0, description="Optimizer steps of the whole run."
    )
    remaining_seconds: int | None = Field(
        default=None, ge=0, description="The trainer's estimate of the time left."
    )
    updated_at: Time | None = Field(default=None, description="When the trainer last reported.")


class Attempt(ApiModel):
    """One Job of the training."""

    index: int = Field(ge=0, description="Index of the attempt, counted from 0.")
    job: str = Field(description="Name of the Job.")
    started_at: Time | None = Field(default=None, description="When its Job was created.")
    running_since: Time | None = Field(
        default=None,
        description="When its first pod started, after a suspension of its Job anew.",
    )
    earlier_run_seconds: int | None = Field(
        default=None,
        ge=0,
        description="Seconds that its pods ran before its Job was suspended and resumed.",
    )
    stalled_since: Time | None = Field(
        default=None,
        description=(
            "Since when one of its pods has a node and can't start a container (an image, a "
            "Secret); after 10 minutes the attempt ends."
        ),
    )
    ended_at: Time | None = Field(default=None, description="When it ended.")
    reason: str | None = Field(
        default=None,
        description=(
            "Why it ended: Completed, Preempted, Suspended, TrainerFailed, OutOfMemory, "
            "DataInvalid, ConfigInvalid, ImageNotFound, ContainerNotStarted, DeadlineExceeded, "
            "BudgetExceeded."
        ),
    )
    message: str | None = Field(default=None, description="What happened and why, as a sentence.")
    resumed_from_step: int | None = Field(
        default=None, ge=0, description="Step of the checkpoint it started from."
    )
    run_seconds: int | None = Field(
        default=None,
        ge=0,
        description="Seconds that its pods ran; of a running one told once a minute.",
    )
    cpus: float | None = Field(
        default=None, ge=0, description="CPUs that its pods held together, as they were made."
    )
    gpus: int | None = Field(
        default=None, ge=0, description="GPUs that its pods held together, as they were made."
    )


class ArtifactStatus(ApiModel):
    """The artifact that the training wrote."""

    uri: str = Field(description="URI of the artifact's folder.")
    sha256: str = Field(description="Checksum of its policy.json, which lists every file's.")
    manifest: str = Field(default="policy.json", description="Name of the manifest in it.")


class DependencyStatus(ApiModel):
    """A version that the training needs."""

    role: str = Field(
        description="What for: `base`, a field of referenceModels, `judge`, or `version:<N>`."
    )
    training_uid: str | None = Field(
        default=None,
        alias="trainingUID",
        description=(
            "Uid of the PolicyTraining that makes it, as last seen: once that is deleted, only the "
            "version that this very one made is taken."
        ),
    )
    version: str | None = Field(
        default=None, description="Name of the PolicyVersion that the first attempt took."
    )


class PolicyTrainingStatus(ApiModel):
    """What is known of the training; written by the operator alone."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this status is about."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Running, Suspended, Succeeded.",
        json_schema_extra=CONDITIONS_EXTRA,
    )
    state: str | None = Field(
        default=None, description="One word for people: the reason of the deciding condition."
    )
    version: int | None = Field(
        default=None, ge=1, description="Number of the version that the training made."
    )
    progress: Progress | None = Field(default=None, description="How far the run is.")
    metrics: list[Metric] = Field(
        default_factory=list,
        description="Latest reported metrics.",
        json_schema_extra=list_map("name"),
    )
    exit_criteria: list[CriterionVerdict] = Field(
        default_factory=list,
        description="Verdicts, once the training has ended.",
        json_schema_extra=list_map("metric"),
    )
    cost: Cost | None = Field(default=None, description="What it has cost, over all attempts.")
    attempts: list[Attempt] = Field(
        default_factory=list,
        description="The last 20 attempts, oldest first.",
        json_schema_extra=list_map("index"),
    )
    failed_attempts: int | None = Field(
        default=None,
        ge=0,
        description="Attempts that crashed, also those not listed any more; maxRetries limits it.",
    )
    reserved_version: int | None = Field(
        default=None,
        ge=1,
        description="First number that its trainer may claim for its version.",
    )
    started_at: Time | None = Field(default=None, description="When the first attempt started.")
    suspended_since: Time | None = Field(
        default=None,
        description="Since when it is suspended, by `suspend` or by whoever suspends its Job.",
    )
    suspended_seconds: int | None = Field(
        default=None,
        ge=0,
        description=(
            "Seconds of suspensions that are over, and between the end by a limit and its raise; "
            "activeDeadlineSeconds does not count them."
        ),
    )
    checkpoints_removed_at: Time | None = Field(
        default=None, description="When the checkpoints of a failed training were removed."
    )
    finished_at: Time | None = Field(default=None, description="When it succeeded or failed.")
    artifact: ArtifactStatus | None = Field(default=None, description="What the training wrote.")
    trainer_image: str | None = Field(
        default=None,
        description=(
            "Image that trains, from the first attempt that ran to the last: an upgrade of the "
            "operator does not change it."
        ),
    )
    dependencies: list[DependencyStatus] = Field(
        default_factory=list,
        description="The versions of others that it needs.",
        json_schema_extra=list_map("role"),
    )
