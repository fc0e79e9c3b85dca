"""What a training may cost, and what it has cost."""

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.v1alpha1.resources import names_gpu


class Budget(ApiModel):
    """What a training may cost over all its attempts, and at what prices it is counted."""

    model_config = rules(
        rule(
            "(!has(self.maxUSD) && !has(self.estimatedUSD)) || has(self.usdPerGPUHour) "
            "|| has(self.usdPerCPUHour)",
            "maxUSD and estimatedUSD need a price: set usdPerGPUHour, usdPerCPUHour or both",
        )
    )

    max_usd: float | None = Field(
        default=None,
        gt=0,
        alias="maxUSD",
        description=(
            "Stop the training before it costs more; it ends with BudgetExceeded, keeps its "
            "checkpoint, and goes on from it when this is raised."
        ),
    )
    max_gpu_hours: float | None = Field(
        default=None,
        gt=0,
        alias="maxGPUHours",
        description="The same for the hours of its GPUs: 2 GPUs for 3 hours are 6.",
    )
    usd_per_gpu_hour: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        alias="usdPerGPUHour",
        description=(
            "Price of a GPU for an hour; a GPU is what compute.gpusPerNode and compute.resources "
            "ask for: nvidia.com/gpu, a slice nvidia.com/mig-…, amd.com/gpu, gpu.intel.com/xe."
        ),
    )
    usd_per_cpu_hour: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        alias="usdPerCPUHour",
        description=(
            "Price of a CPU for an hour. A pod has the CPUs that it requests as it is made, with "
            "a LimitRange's defaults and sidecars; a trainer that requests none counts as one."
        ),
    )
    estimated_usd: float | None = Field(
        default=None,
        gt=0,
        alias="estimatedUSD",
        description="What the training is expected to cost; reports show it beside what it did.",
    )


_GPUS = (
    "has(self.compute) && ((has(self.compute.gpusPerNode) && self.compute.gpusPerNode > 0) || "
    f"{names_gpu('self.compute.resources')})"
)

# Rules of a spec that has a budget and says in `compute` what is counted.
BUDGET_RULES = [
    rule(
        f"!has(self.budget) || !has(self.budget.maxGPUHours) || ({_GPUS})",
        "budget.maxGPUHours is for GPUs: set compute.gpusPerNode, or limit the cost by maxUSD",
    ),
    rule(
        f"!has(self.budget) || !has(self.budget.maxUSD) || has(self.budget.usdPerGPUHour) "
        f"|| !({_GPUS})",
        "with GPUs, budget.maxUSD needs their price: set budget.usdPerGPUHour",
    ),
    rule(
        f"!has(self.budget) || !has(self.budget.maxUSD) || has(self.budget.usdPerCPUHour) "
        f"|| ({_GPUS})",
        "without GPUs, budget.maxUSD needs the CPUs' price: set budget.usdPerCPUHour",
    ),
]


class Cost(ApiModel):
    """What a training has cost, over all attempts.

    Pods count from the start of an attempt's first one, pulling the image included, to the
    attempt's end; waiting for a node is free.
    """

    run_seconds: int = Field(
        default=0, ge=0, description="Seconds that its pods ran, over all attempts."
    )
    gpu_seconds: int = Field(
        default=0, ge=0, description="GPU seconds: run seconds times the number of GPUs."
    )
    cpu_seconds: int = Field(
        default=0, ge=0, description="CPU seconds: run seconds times the number of CPUs."
    )
    usd: float | None = Field(
        default=None, ge=0, description="Their cost at the budget's prices; unset: it has none."
    )
    estimated_usd: float | None = Field(
        default=None,
        ge=0,
        alias="estimatedUSD",
        description=(
            "Newest estimate of the whole cost: usd, and the time left that the trainer last "
            "reported; before it reports, and once it has completed, the budget's own."
        ),
    )
