"""What a training takes in: its base, the models beside it, its adapter, its data."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from policy_api.base import DNS_LABEL, DNS_SUBDOMAIN, SHA256, ApiModel, rule, rules

NAME_LIMIT = 46  # characters of a PolicyTraining's name: Jobs and their pods are named after it
DATA_URI = r"^((pvc|s3|file)://.+|configmap://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+)$"


class TrainingRef(ApiModel):
    """Names a PolicyTraining in the same namespace."""

    model_config = rules(
        rule(
            f"!self.name.contains('.') && self.name.size() <= {NAME_LIMIT}",
            f"no PolicyTraining has such a name: it has no dots and at most {NAME_LIMIT} "
            "characters",
        )
    )

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


class OnnxFile(ApiModel):
    """An ONNX file to start from."""

    uri: str = Field(
        pattern=DATA_URI,
        max_length=1024,
        description=(
            "The file: pvc://<claim>/<path>, s3://<bucket>/<key>, configmap://<name>/<key> or "
            "file:///<path in the image>."
        ),
    )
    sha256: str | None = Field(
        default=None, pattern=SHA256, description="The file's checksum; another file is refused."
    )


class Base(ApiModel):
    """What training starts from."""

    model_config = rules(
        rule(
            "[has(self.model), has(self.training), has(self.version), has(self.onnx), "
            "has(self.scratch)].filter(x, x).size() == 1",
            "set exactly one of model, training, version, onnx, scratch",
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
    version: int | None = Field(
        default=None,
        ge=1,
        description="An accepted version of this same policy, to train it further.",
    )
    onnx: OnnxFile | None = Field(
        default=None, description="A policy that recipe CQL exported, such as another team's."
    )
    scratch: Scratch | None = Field(default=None, description="A small new model.")


class VersionRef(ApiModel):
    """Names a version of a policy in the same namespace."""

    policy: str = Field(
        pattern=DNS_LABEL, max_length=40, description="Policy that the version is of."
    )
    version: int = Field(ge=1, description="Number of the version.")


class Reference(ApiModel):
    """Another version's artifact, which training uses and does not change."""

    model_config = rules(
        rule("has(self.training) != has(self.version)", "set either training or version")
    )

    training: TrainingRef | None = Field(
        default=None, description="A PolicyTraining's artifact; waits until it has succeeded."
    )
    version: VersionRef | None = Field(default=None, description="An accepted version.")


class ReferenceModels(ApiModel):
    """Models that take part in training, each in its own role."""

    reward: Reference | None = Field(
        default=None, description="The reward model that scores answers (GRPO, PPO)."
    )
    risk: Reference | None = Field(
        default=None, description="The classifier of who leaves (ConstrainedPPO)."
    )
    acceptance: Reference | None = Field(
        default=None, description="The classifier of who accepts an offer (ConstrainedPPO)."
    )


class Quantization(StrEnum):
    """How frozen weights are kept while an adapter is trained."""

    NONE = "None"
    INT8 = "Int8"
    NF4 = "NF4"


class Adapter(ApiModel):
    """Train a low-rank adapter (Hu et al. 2021) and merge it into the artifact."""

    type: Literal["LoRA"] = Field(default="LoRA", description="Kind of adapter.")
    rank: int = Field(default=8, ge=1, le=1024, description="Rank of the update.")
    alpha: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Scale of the update, which is multiplied by alpha/rank.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    quantization: Quantization = Field(
        default=Quantization.NONE,
        description=(
            "Keep the frozen weights in 8 bits (Dettmers et al. 2022) or as 4-bit NormalFloat "
            "(QLoRA, Dettmers et al. 2023) while training; the artifact has ordinary weights."
        ),
    )
    target_modules: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Modules that get an adapter; unset: all linear layers.",
    )


class Split(ApiModel):
    """Parts of one input, in percent.

    A row's part depends on the seed and on what it shares with others: rows of one prompt, plan or
    episode stay together.
    """

    model_config = rules(
        rule(
            "self.train + self.validation + self.test == 100",
            "train, validation and test must add up to 100",
        )
    )

    train: int = Field(ge=1, le=99, description="Percent of the rows that are trained on.")
    validation: int = Field(
        default=0, ge=0, le=99, description="Percent of the rows for `validation`."
    )
    test: int = Field(default=0, ge=0, le=99, description="Percent of the rows for `test`.")


class DataInput(ApiModel):
    """One named input of the training."""

    name: str = Field(
        pattern=DNS_LABEL,
        max_length=63,
        description=(
            "`train` is trained on; `validation` is held out for choices and evaluation, `test` "
            "for the final numbers; `probes` are prompts that tempt (PPO)."
        ),
    )
    uri: str = Field(
        pattern=DATA_URI,
        max_length=1024,
        description=(
            "File of JSON Lines, or of CSV when it ends in .csv or .csv.gz: pvc://<claim>/<path>, "
            "s3://<bucket>/<key>, configmap://<name>/<key> or file:///<path in the image>."
        ),
    )
    sha256: str | None = Field(
        default=None, pattern=SHA256, description="The file's checksum; another file is refused."
    )
    max_rows: int | None = Field(default=None, ge=1, description="Take at most this many rows.")
    split: Split | None = Field(
        default=None, description="Hold parts of this input out as `validation` and `test`."
    )
