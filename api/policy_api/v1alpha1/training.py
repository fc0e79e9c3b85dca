"""PolicyTraining: turns data into an artifact that its exit criteria accept or reject."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from policy_api.base import (
    CONDITIONS_EXTRA,
    DNS_LABEL,
    DNS_SUBDOMAIN,
    SHA256,
    ApiModel,
    Condition,
    Metric,
    Time,
    immutable,
    list_map,
    rule,
    rules,
)

URI = r"^(pvc|s3|file)://.+$"
DATA_URI = r"^((pvc|s3|file)://.+|configmap://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+)$"


class Recipe(StrEnum):
    """How a policy is trained."""

    SFT = "SFT"
    GRPO = "GRPO"


Args = Annotated[
    dict[str, Any],
    Field(
        default_factory=dict,
        description=(
            "Any other field of the recipe's TRL config, by its TRL name. Name and type are "
            "checked before anything is trained."
        ),
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    ),
]


class RecipeCommon(ApiModel):
    """What both recipes take."""

    epochs: float = Field(default=1.0, gt=0, le=1000, description="Passes over the data.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps; when set, it wins over epochs."
    )
    learning_rate: float = Field(
        default=1.0e-5, gt=0, le=1, description="Peak learning rate of AdamW."
    )
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="Samples a process takes in one forward pass."
    )
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, le=4096, description="Forward passes for each optimizer step."
    )
    max_length: int = Field(
        default=512, ge=8, le=1_048_576, description="Longest prompt and completion, in tokens."
    )


class SFT(RecipeCommon):
    """Supervised fine-tuning on prompt and completion pairs (TRL SFTTrainer)."""

    args: Args


class Length(ApiModel):
    """A condition on, or a measure of, an answer's length in characters."""

    model_config = rules(
        rule(
            "has(self.target) ? (!has(self.min) && !has(self.max)) "
            ": (has(self.min) || has(self.max))",
            "set either target, or min and/or max",
        )
    )

    min: int | None = Field(default=None, ge=0, description="Holds from this many characters.")
    max: int | None = Field(default=None, ge=0, description="Holds up to this many characters.")
    target: int | None = Field(
        default=None,
        ge=1,
        description="Proportional instead: the answer's length over this target, at most 1.",
    )


_REWARD_KINDS = ("contains", "containsAny", "regex", "length")


class Reward(ApiModel):
    """One term of the reward: `weight` when its condition holds, else 0."""

    model_config = rules(
        rule(
            "[" + ", ".join(f"has(self.{k})" for k in _REWARD_KINDS) + "].filter(x, x).size() == 1",
            "set exactly one of contains, containsAny, regex, length",
        )
    )

    name: str = Field(
        pattern=DNS_LABEL, max_length=63, description="Name of the term; its mean is a metric."
    )
    weight: float = Field(description="What the term adds; negative for a penalty.")
    contains: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        default=None, min_length=1, max_length=32, description="The answer has all of these texts."
    )
    contains_any: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        default=None, min_length=1, max_length=32, description="The answer has one of these texts."
    )
    regex: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A Python regular expression that is found somewhere in the answer.",
    )
    length: Length | None = Field(
        default=None, description="The answer's length in characters is in a range."
    )


class GRPO(RecipeCommon):
    """Group relative policy optimization (Shao et al. 2024, TRL GRPOTrainer)."""

    num_generations: int = Field(
        default=8, ge=2, le=256, description="Answers sampled for each prompt: the group."
    )
    max_completion_length: int = Field(
        default=256, ge=1, le=1_048_576, description="Longest answer, in tokens."
    )
    temperature: float = Field(default=1.0, gt=0, le=10, description="Sampling temperature.")
    beta: float = Field(
        default=0.0, ge=0, le=100, description="Weight of the KL term against the start."
    )
    rewards: list[Reward] = Field(
        min_length=1,
        max_length=32,
        description="Terms of the reward; an answer's reward is their sum.",
        json_schema_extra=list_map("name"),
    )
    args: Args


class TrainingRef(ApiModel):
    """Names a PolicyTraining in the same namespace."""

    name: str = Field(
        pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the PolicyTraining."
    )


class Scratch(ApiModel):
    """A small Llama-like causal model with random weights, for tests and examples."""

    hidden_size: int = Field(default=64, ge=8, le=4096, description="Width of the residual stream.")
    layers: int = Field(default=2, ge=1, le=64, description="Number of decoder layers.")
    heads: int = Field(default=4, ge=1, le=64, description="Attention heads of each layer.")
    vocab_size: int = Field(
        default=512,
        ge=260,
        le=65536,
        description="Size of the byte-level BPE vocabulary, learned from the training data.",
    )
    max_length: int = Field(default=512, ge=16, le=8192, description="Longest context, in tokens.")


class Base(ApiModel):
    """What training starts from."""

    model_config = rules(
        rule(
            "[has(self.model), has(self.training), has(self.scratch)].filter(x, x).size() == 1",
            "set exactly one of model, training, scratch",
        )
    )

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Hub id, or a path in the pod.",
    )
    training: TrainingRef | None = Field(
        default=None, description="Another PolicyTraining's artifact; waits until it has succeeded."
    )
    scratch: Scratch | None = Field(default=None, description="A small new model.")


class Adapter(ApiModel):
    """Train a low-rank adapter (Hu et al. 2021) and merge it into the artifact."""

    type: Literal["LoRA"] = Field(default="LoRA", description="Kind of adapter.")
    rank: int = Field(default=8, ge=1, le=1024, description="Rank of the update.")
    alpha: int = Field(default=16, ge=1, le=4096, description="The update counts alpha/rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Modules that get an adapter; unset: all linear layers.",
    )


class DataInput(ApiModel):
    """One named input of the training."""

    name: str = Field(
        pattern=DNS_LABEL,
        max_length=63,
        description="`train` is trained on; `validation` is held out for evaluation.",
    )
    uri: str = Field(
        pattern=DATA_URI,
        max_length=1024,
        description=(
            "JSON Lines file: pvc://<claim>/<path>, s3://<bucket>/<key>, "
            "configmap://<name>/<key> or file:///<path in the image>."
        ),
    )
    sha256: str | None = Field(
        default=None, pattern=SHA256, description="The file's checksum; another file is refused."
    )
    max_rows: int | None = Field(default=None, ge=1, description="Take at most this many rows.")


class ExitCriterion(ApiModel):
    """A condition on a reported metric that the training must meet to succeed."""

    model_config = rules(
        rule("has(self.min) || has(self.max)", "set min, max or both"),
        rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"
        ),
    )

    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", max_length=63, description="Name of the metric, snake_case."
    )
    min: float | None = Field(default=None, description="Met when the metric is at least this.")
    max: float | None = Field(default=None, description="Met when the metric is at most this.")


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

    nodes: int = Field(default=1, ge=1, le=512, description="Pods, one a node.")
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
        description="Requests and limits of each pod's trainer container, as in a pod.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
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


class SecretRef(ApiModel):
    """Names a Secret in the same namespace."""

    name: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the Secret.")


class ArtifactStore(ApiModel):
    """Where versions and checkpoints are written."""

    uri: str = Field(
        pattern=URI,
        max_length=1024,
        description=(
            "Root folder: pvc://<claim>[/<path>], s3://<bucket>[/<prefix>] or file:///<path>. "
            "Several nodes need one that all of them can write."
        ),
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose keys become environment variables, e.g. AWS_ACCESS_KEY_ID.",
    )


class AnswerSchema(ApiModel):
    """What a valid answer of a text policy looks like; the server enforces it."""

    patterns: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list,
        max_length=32,
        description="Python regular expressions; each must be found in the answer.",
    )
    min_length: int = Field(default=0, ge=0, description="Fewest characters.")
    max_length: int | None = Field(default=None, ge=1, description="Most characters.")


_RUN_SHAPING = (
    "policy",
    "tag",
    "seed",
    "recipe",
    "sft",
    "grpo",
    "base",
    "adapter",
    "data",
    "exitCriteria",
    "answerSchema",
    "compute",
    "trainer",
    "checkpoints",
    "artifact",
)


class PolicyTrainingSpec(ApiModel):
    """What to train, from what, where, and when it counts as a success."""

    model_config = rules(
        rule("(self.recipe == 'SFT') == has(self.sft)", "set sft if and only if recipe is SFT"),
        rule("(self.recipe == 'GRPO') == has(self.grpo)", "set grpo if and only if recipe is GRPO"),
        rule(
            "self.data.exists(d, d.name == 'train')",
            "data needs an input named train",
        ),
        rule(
            "!has(self.compute) || !has(self.compute.nodes) || self.compute.nodes == 1 "
            "|| !self.artifact.uri.startsWith('file://')",
            "several nodes need an artifact.uri that all of them can write: pvc:// or s3://",
        ),
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
    recipe: Recipe = Field(description="How the policy is trained.")
    sft: SFT | None = Field(default=None, description="Settings of recipe SFT.")
    grpo: GRPO | None = Field(default=None, description="Settings of recipe GRPO.")
    base: Base = Field(description="What training starts from: exactly one of its fields.")
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
        description="All must be met, or the training ends with Succeeded=False.",
        json_schema_extra=list_map("metric"),
    )
    answer_schema: AnswerSchema = Field(
        default_factory=AnswerSchema,
        description="What a valid answer looks like; the server enforces it.",
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
        default=None, ge=1, description="Time from the first attempt's start until it is ended."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        description="Delete it this long after its end; the version stays.",
    )


class Progress(ApiModel):
    """How far the run is, as the trainer last reported."""

    percent: int | None = Field(default=None, ge=0, le=100, description="Part done, in percent.")
    step: int | None = Field(default=None, ge=0, description="Optimizer steps done.")
    max_steps: int | None = Field(default=None, ge=0, description="Optimizer steps in all.")
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

    index: int = Field(ge=0, description="0, 1, 2…")
    job: str = Field(description="Name of the Job.")
    started_at: Time | None = Field(default=None, description="When its Job was created.")
    ended_at: Time | None = Field(default=None, description="When it ended.")
    reason: str | None = Field(
        default=None,
        description=(
            "Why it ended: Completed, Preempted, Suspended, TrainerFailed, OutOfMemory, "
            "DataInvalid, ConfigInvalid, ImageNotFound, DeadlineExceeded."
        ),
    )
    message: str | None = Field(default=None, description="The same as a sentence.")
    resumed_from_step: int | None = Field(
        default=None, ge=0, description="Step of the checkpoint it started from."
    )


class ArtifactStatus(ApiModel):
    """The artifact that the training wrote."""

    uri: str = Field(description="Its folder.")
    sha256: str = Field(description="Checksum of its policy.json, which lists every file's.")
    manifest: str = Field(default="policy.json", description="Name of the manifest in it.")


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
    attempts: list[Attempt] = Field(
        default_factory=list,
        description="The last 20 attempts, oldest first.",
        json_schema_extra=list_map("index"),
    )
    started_at: Time | None = Field(default=None, description="When the first attempt started.")
    finished_at: Time | None = Field(default=None, description="When it succeeded or failed.")
    artifact: ArtifactStatus | None = Field(default=None, description="What the training wrote.")
