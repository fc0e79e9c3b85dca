"""PolicyTraining: turns data into an artifact that its exit criteria accept or reject."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from policy_api.base import (
    CONDITIONS_EXTRA,
    DNS_LABEL,
    ApiModel,
    Condition,
    Metric,
    Time,
    immutable,
    list_map,
    rule,
    rules,
)
from policy_api.v1alpha1.budget import BUDGET_RULES, Budget, Cost
from policy_api.v1alpha1.inputs import Adapter, Base, DataInput, ReferenceModels
from policy_api.v1alpha1.judge import Judge
from policy_api.v1alpha1.recipes.blocks import BLOCK_NAMES, BLOCK_RULES, RecipeBlocks
from policy_api.v1alpha1.recipes.common import INCREMENTAL_RECIPES, TEXT_RECIPES, Recipe
from policy_api.v1alpha1.resources import GPU_RULES, resources_schema
from policy_api.v1alpha1.store import EXPORT_RULES, ArtifactStore


class ExitCriterion(ApiModel):
    """A condition on a reported metric that the training must meet to succeed."""

    model_config = rules(
        rule(
            "has(self.min) || has(self.max) || has(self.lowerBound) || has(self.upperBound)",
            "set at least one of min, max, lowerBound, upperBound",
        ),
        rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"
        ),
    )

    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", max_length=63, description="Name of the metric, snake_case."
    )
    min: float | None = Field(default=None, description="Met when the metric is at least this.")
    max: float | None = Field(default=None, description="Met when the metric is at most this.")
    lower_bound: float | None = Field(
        default=None, description="Met when the whole interval of the metric is above this."
    )
    upper_bound: float | None = Field(
        default=None, description="Met when the whole interval of the metric is below this."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of the metric's interval."
    )
    against: str = Field(
        default="",
        pattern=r"^(best-baseline|version:[1-9][0-9]*)?$",
        max_length=32,
        description=(
            "Judge the difference to this instead: best-baseline, or version:<N> of this policy, "
            "measured on the same data."
        ),
    )


class OnUnmet(StrEnum):
    """What becomes of a training whose exit criteria are unmet."""

    FAIL = "Fail"
    KEEP = "Keep"


class StopRule(ApiModel):
    """Ends a run early when a metric that it reports while it runs is out of bounds."""

    model_config = rules(rule("has(self.min) || has(self.max)", "set min, max or both"))

    metric: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_/-]*$",
        max_length=63,
        description="Name of a metric that is reported while the training runs.",
    )
    min: float | None = Field(default=None, description="Out of bounds below this.")
    max: float | None = Field(default=None, description="Out of bounds above this.")
    patience: int = Field(
        default=1, ge=1, le=10000, description="Reports in a row that must be out of bounds."
    )


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


class AnswerSchema(ApiModel):
    """What a valid answer of a text policy looks like; the server enforces it."""

    patterns: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list,
        max_length=32,
        description="Python regular expressions; each must be found in the answer.",
    )
    min_length: int = Field(default=0, ge=0, description="Fewest characters of a valid answer.")
    max_length: int | None = Field(
        default=None, ge=1, description="Most characters of a valid answer."
    )


_RUN_SHAPING = (
    "policy",
    "tag",
    "seed",
    "recipe",
    *BLOCK_NAMES,
    "base",
    "referenceModels",
    "judge",
    "adapter",
    "data",
    "exitCriteria",
    "onUnmet",
    "stopEarly",
    "answerSchema",
    "compute",
    "trainer",
    "checkpoints",
    "artifact",
)


def _is_one_of(recipes: Iterable[Recipe]) -> str:
    return "self.recipe in [" + ", ".join(f"'{recipe}'" for recipe in recipes) + "]"


_TEXT = _is_one_of(TEXT_RECIPES)


class PolicyTrainingSpec(RecipeBlocks):
    """What to train, from what, where, and when it counts as a success."""

    model_config = rules(
        *BLOCK_RULES,
        rule(
            "self.data.exists(d, d.name == 'train')",
            "data needs an input named train",
        ),
        rule(f"!({_TEXT}) || has(self.base)", "base is needed: what training starts from"),
        rule(
            f"({_is_one_of((*TEXT_RECIPES, *INCREMENTAL_RECIPES))}) || !has(self.base)",
            "this recipe starts from nothing: leave base unset",
        ),
        rule(
            f"({_TEXT}) || !has(self.base) || has(self.base.training) || has(self.base.version) "
            "|| has(self.base.onnx)",
            "base may only be a training, a version or an ONNX file with this recipe, which trains "
            "no text model",
        ),
        rule(
            "!has(self.base) || !has(self.base.onnx) || has(self.cql)",
            "base.onnx is for recipe CQL, whose exports it can read again",
        ),
        rule(
            "!has(self.referenceModels) || !has(self.referenceModels.reward) || has(self.grpo) "
            "|| has(self.ppo)",
            "referenceModels.reward is for recipes GRPO and PPO; no other recipe uses it",
        ),
        rule(
            "has(self.constrainedPPO) == (has(self.referenceModels) "
            "&& has(self.referenceModels.risk) && has(self.referenceModels.acceptance)) "
            "&& (has(self.constrainedPPO) || !has(self.referenceModels) || "
            "(!has(self.referenceModels.risk) && !has(self.referenceModels.acceptance)))",
            "set referenceModels.risk and acceptance if and only if recipe is ConstrainedPPO",
        ),
        *(
            rule(
                f"!has(self.{block}) || !self.{block}.rewards.exists(r, has(r.model)) || "
                "(has(self.referenceModels) && has(self.referenceModels.reward))",
                "a reward with model needs referenceModels.reward",
            )
            for block in ("grpo", "ppo")
        ),
        *(
            rule(
                f"!has(self.{block}) || self.{block}.rewards.all(r, !has(r.judge) || "
                "(has(self.judge) && self.judge.criteria.exists(c, c.name == r.judge)))",
                "a reward with judge needs spec.judge with a criterion of that name",
            )
            for block in ("grpo", "ppo")
        ),
        rule(
            "!has(self.judge) || (has(self.grpo) && self.grpo.rewards.exists(r, has(r.judge))) "
            "|| (has(self.ppo) && self.ppo.rewards.exists(r, has(r.judge)))",
            "judge is for rewards of recipes GRPO and PPO: give one of them a judge, or leave "
            "spec.judge unset",
        ),
        rule(f"({_TEXT}) || !has(self.adapter)", "adapter is for recipes that train a text model"),
        rule(
            "!has(self.adapter) || !has(self.adapter.quantization) || "
            "self.adapter.quantization == 'None' || !has(self.base) || !has(self.base.scratch)",
            "adapter.quantization keeps weights that were learned: a scratch base has none",
        ),
        rule(
            "!has(self.adapter) || !has(self.adapter.quantization) || "
            "self.adapter.quantization == 'None' || !has(self.compute) || "
            "!has(self.compute.deepspeed) || !has(self.compute.deepspeed.stage) || "
            "self.compute.deepspeed.stage != 3",
            "ZeRO-3 cannot spread quantized weights: set compute.deepspeed.stage to 2 or less",
        ),
        rule(
            "!has(self.ppo) || !has(self.adapter) || !has(self.adapter.dropout) "
            "|| self.adapter.dropout == 0.0",
            "recipe PPO trains without dropout: leave adapter.dropout unset",
        ),
        rule(
            f"({_TEXT}) || !has(self.compute) || ((!has(self.compute.nodes) || "
            "self.compute.nodes == 1) && !has(self.compute.deepspeed) && "
            "(!has(self.compute.processesPerNode) || self.compute.processesPerNode == 1))",
            "this recipe trains in one process: leave compute.nodes, processesPerNode and "
            "deepspeed unset",
        ),
        rule(
            "!has(self.compute) || !has(self.compute.nodes) || self.compute.nodes == 1 "
            "|| !self.artifact.uri.startsWith('file://')",
            "several nodes need an artifact.uri that all of them can write: pvc:// or s3://",
        ),
        *EXPORT_RULES,
        *BUDGET_RULES,
        *immutable(_RUN_SHAPING, "PolicyTraining"),
    )

    policy: str = Field(
        pattern=DNS_LABEL,
        max_length=40,
        description="The policy, whose versions are numbered.",
    )
    tag: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Experiment label, copied to the version, its manifest and its metrics.",
    )
    seed: int = Field(
        default=42, ge=0, le=4_294_967_295, description="Seed of everything that is random."
    )
    base: Base | None = Field(
        default=None,
        description="What training starts from; exactly one of its fields. Text models need it.",
    )
    reference_models: ReferenceModels | None = Field(
        default=None, description="Other versions' models that take part in training."
    )
    judge: Judge | None = Field(
        default=None, description="A language model that judges answers (GRPO, PPO)."
    )
    adapter: Adapter | None = Field(
        default=None, description="Train an adapter; unset: train all weights."
    )
    data: list[DataInput] = Field(
        min_length=1,
        max_length=16,
        description="Named inputs; one of them is `train`.",
        json_schema_extra=list_map("name"),
    )
    exit_criteria: list[ExitCriterion] = Field(
        default_factory=list,
        max_length=32,
        description="All must be met, or the training ends as onUnmet says.",
        json_schema_extra=list_map("metric", "against"),
    )
    on_unmet: OnUnmet = Field(
        default=OnUnmet.FAIL,
        description=(
            "Fail: Succeeded=False, and what waits for this training fails as well. Keep: it ends "
            "well, its version is not accepted and never deployed, but others may start from it."
        ),
    )
    stop_early: list[StopRule] = Field(
        default_factory=list,
        max_length=16,
        description="End the run early by its own metrics; the exit criteria then judge it.",
        json_schema_extra=list_map("metric"),
    )
    answer_schema: AnswerSchema = Field(
        default_factory=AnswerSchema,
        description="What a valid answer looks like; the server enforces it.",
    )
    budget: Budget | None = Field(
        default=None,
        description="What it may cost, and at what prices it is counted; may be changed.",
    )
    compute: Compute = Field(default_factory=Compute, description="Where and how wide it runs.")
    trainer: Trainer = Field(default_factory=Trainer, description="The image that trains.")
    checkpoints: Checkpoints = Field(
        default_factory=Checkpoints, description="How often the run is saved."
    )
    artifact: ArtifactStore = Field(description="Where versions and checkpoints are written.")
    max_retries: int = Field(
        default=3, ge=0, le=100, description="New attempts after a crash; a preemption is not one."
    )
    suspend: bool = Field(
        default=False,
        description="Stop the run at its next step, keep its checkpoint; unset it to go on.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Seconds from the first attempt's start until it is ended, suspensions not counted; it "
            "ends with DeadlineExceeded and goes on from its checkpoint when this is raised."
        ),
    )
    checkpoint_retention_seconds: int | None = Field(
        default=None,
        ge=0,
        le=3_153_600_000,
        description=(
            "Seconds after which the checkpoints of a training that failed for good or was deleted "
            "are removed; unset: a week, 604800. One that can go on keeps them, one that succeeds "
            "has none."
        ),
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        description=(
            "Delete it this many seconds after its end; the version stays. An end that is taken "
            "back when its budget or deadline is raised deletes nothing."
        ),
    )


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


class CriterionVerdict(ApiModel):
    """One exit criterion and what became of it."""

    metric: str = Field(description="Name of the metric.")
    met: bool = Field(description="Whether the criterion is met.")
    observed: float | None = Field(default=None, description="The reported value, if any.")
    wanted: str = Field(description="What was asked for, e.g. `>= 0.15`.")
    message: str = Field(default="", description="Why it could not be judged, if so.")


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
