"""PolicyTraining: turns data into an artifact that its exit criteria accept or reject."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from policy_api.base import (
    DNS_LABEL,
    ApiModel,
    immutable,
    list_map,
    rule,
    rules,
)
from policy_api.v1alpha1.answers import AnswerField
from policy_api.v1alpha1.budget import BUDGET_RULES, Budget
from policy_api.v1alpha1.compute import Checkpoints, Compute, Trainer
from policy_api.v1alpha1.criteria import ExitCriterion, OnUnmet, StopRule
from policy_api.v1alpha1.inputs import Adapter, Base, DataInput, ReferenceModels
from policy_api.v1alpha1.judge import Judge
from policy_api.v1alpha1.recipes.blocks import BLOCK_NAMES, BLOCK_RULES, RecipeBlocks
from policy_api.v1alpha1.recipes.common import INCREMENTAL_RECIPES, TEXT_RECIPES, Recipe
from policy_api.v1alpha1.store import EXPORT_RULES, ArtifactStore


class AnswerSchema(ApiModel):
    """What a valid answer of a text policy looks like; the server enforces it."""

    model_config = rules(
        rule(
            "!has(self.confidence) || (has(self.fields) && self.fields.exists(f, "
            "f.name == self.confidence && (f.type == 'Number' || f.type == 'Integer') && "
            "has(f.min) && double(f.min) == 0.0 && has(f.max) && "
            "(double(f.max) == 1.0 || double(f.max) == 100.0)))",
            "confidence must name one of fields, a Number or Integer with min 0 and max 1 or 100",
        )
    )

    patterns: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list,
        max_length=32,
        description="Python regular expressions; each must be found in the answer.",
    )
    forbidden: list[Annotated[str, Field(min_length=1, max_length=1024)]] | None = Field(
        default=None,
        max_length=32,
        description=(
            "Python regular expressions of what must never be said: an answer in which one of them "
            "is found is withheld and counted as a safety violation."
        ),
    )
    min_length: int = Field(default=0, ge=0, description="Fewest characters of a valid answer.")
    max_length: int | None = Field(
        default=None, ge=1, description="Most characters of a valid answer."
    )
    fields: list[AnswerField] | None = Field(
        default=None,
        max_length=32,
        description=(
            "What is read from an answer. Responses carry it as `fields`; an answer that lacks one "
            "or has one out of its bounds is not valid."
        ),
        json_schema_extra=list_map("name"),
    )
    confidence: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description=(
            "Name of the field that says how sure the answer is: from 0 to 1, or in percent where "
            "its max is 100. Unset: the mean probability of the answer's tokens."
        ),
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
