"""Where and how wide a training runs, and what it keeps on the way."""

from typing import Any

from pydantic import Field

from policy_api.base import (
    ApiModel,
    rules,
)
from policy_api.v1alpha1.resources import GPU_RULES, resources_schema


class DeepSpeed(ApiModel):
    """DeepSpeed's ZeRO optimizer (Rajbhandari et al. 2020)."""

    stage: int = Field(
        default=2,
        ge=0,
        le=3,
        description="ZeRO: 0 off, 1 optimizer, 2 +gradients, 3 +weights.",
    )


class Compute(ApiModel):
    """Where and how wide the training runs."""

    model_config = rules(*GPU_RULES)

    nodes: int = Field(
        default=1,
        ge=1,
        le=512,
        description="Number of pods, each on a node of its own where possible.",
    )
    gpus_per_node: int = Field(
        default=0, ge=0, le=16, description="GPUs of each pod (nvidia.com/gpu); 0 trains on CPU."
    )
    processes_per_node: int | None = Field(
        default=None, ge=1, le=64, description="Processes of each pod; unset: one a GPU, or one."
    )
    deepspeed: DeepSpeed | None = Field(
        default=None, description="Train under DeepSpeed; unset: plain data parallel."
    )
    resources: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Requests and limits of each pod's trainer container, as in a pod. GPUs named here are "
            "paid for, but used only by what gpusPerNode asks for."
        ),
        json_schema_extra=resources_schema(),
    )
    node_selector: dict[str, str] | None = Field(
        default=None, max_length=32, description="Labels that a node must have."
    )


class Trainer(ApiModel):
    """The image that trains."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image with policy_trainer; unset: the operator's own trainer image.",
    )


class Checkpoints(ApiModel):
    """How often the run is saved, so that an interruption costs little."""

    every_steps: int = Field(
        default=50, ge=1, le=1_000_000, description="Optimizer steps between checkpoints."
    )
    keep: int = Field(default=2, ge=1, le=100, description="Newest checkpoints that are kept.")
