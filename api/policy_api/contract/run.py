"""The resolved config of one attempt: the operator writes it, the pod mounts it as run.json.

The operator is upgraded while trainer images stay: see `policy_api.contract.versions`.
"""

from pydantic import Field

from policy_api.base import SHA256, ApiModel
from policy_api.contract.environment import RUN_FILE
from policy_api.contract.versions import load
from policy_api.skew import unknown_field
from policy_api.v1alpha1.budget import Budget
from policy_api.v1alpha1.compute import Checkpoints, Compute
from policy_api.v1alpha1.criteria import ExitCriterion, StopRule
from policy_api.v1alpha1.inputs import Adapter, Scratch, Split
from policy_api.v1alpha1.judge import Judge
from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.store import Export, GGUFType
from policy_api.v1alpha1.training import AnswerSchema

SCHEMA_VERSION = 1


class RunFile(ApiModel):
    """One file, resolved to what the pod opens."""

    uri: str = Field(description="As the user wrote it; this is what goes into the manifest.")
    path: str = Field(description="A local path, or an s3:// URL for fsspec.")
    sha256: str | None = Field(
        default=None, pattern=SHA256, description="SHA-256 that the file must have."
    )


class RunInput(RunFile):
    """One data input, resolved to what the pod opens."""

    name: str = Field(description="`train`, `validation`, …")
    max_rows: int | None = Field(default=None, ge=1, description="Take at most this many rows.")
    split: Split | None = Field(default=None, description="Parts that are held out.")


class BaseArtifact(ApiModel):
    """The artifact of another version, which training starts from."""

    uri: str = Field(description="Public URI of its folder.")
    path: str = Field(description="What the pod opens.")
    sha256: str = Field(pattern=SHA256, description="Wanted checksum of its policy.json.")
    policy: str = Field(description="Policy that the version is of.")
    version: int = Field(ge=1, description="Number of the version.")


class RunReference(ApiModel):
    """Another version's artifact that takes part, in a role."""

    name: str = Field(description="`reward`, `judge` or `version:<N>`.")
    artifact: BaseArtifact = Field(description="Where the artifact is.")


class RunBase(ApiModel):
    """What training starts from: one is set, or none for a recipe that needs no base."""

    model: str | None = Field(default=None, description="Model hub id or path.")
    artifact: BaseArtifact | None = Field(default=None, description="Another version's artifact.")
    onnx: RunFile | None = Field(default=None, description="A policy's ONNX file.")
    scratch: Scratch | None = Field(default=None, description="A small new model.")


class RunStore(ApiModel):
    """Where versions and checkpoints are written."""

    uri: str = Field(description="Public root URI.")
    path: str = Field(description="What the pod opens: a local folder, or an s3:// URL.")
    exports: tuple[Export, ...] = Field(default=(), description="Formats beside safetensors.")
    gguf_types: tuple[GGUFType, ...] = Field(
        default=(GGUFType.F16,), description="How GGUF files keep the weights."
    )
    bundle: bool = Field(default=False, description="Add a report to the artifact.")


class RunTraining(ApiModel):
    """The PolicyTraining that this attempt is of."""

    namespace: str = Field(description="Namespace of the PolicyTraining.")
    name: str = Field(description="Name of the PolicyTraining.")
    uid: str = Field(description="Uid of the PolicyTraining.")


class RunConfig(RecipeBlocks):
    """Everything that a trainer pod needs to know, but its rank."""

    schema_version: int | None = Field(
        default=None, ge=1, description="Version of this shape; unset: 1."
    )
    training: RunTraining = Field(description="The PolicyTraining.")
    attempt: int = Field(ge=0, description="Index of the attempt, counted from 0.")
    policy: str = Field(description="The policy's name.")
    min_version: int = Field(ge=1, description="First number that may be free.")
    tag: str | None = Field(default=None, description="Experiment label.")
    seed: int = Field(default=42, ge=0, description="Seed of everything that is random.")
    base: RunBase = Field(default_factory=RunBase, description="What training starts from.")
    references: tuple[RunReference, ...] = Field(
        default=(), description="Other versions' artifacts that take part."
    )
    judge: Judge | None = Field(default=None, description="What judges answers; no key is in it.")
    adapter: Adapter | None = Field(default=None, description="Train an adapter.")
    data: tuple[RunInput, ...] = Field(min_length=1, description="Named inputs.")
    exit_criteria: tuple[ExitCriterion, ...] = Field(default=(), description="Exit criteria.")
    stop_early: tuple[StopRule, ...] = Field(
        default=(), description="Rules that end the run early."
    )
    answer_schema: AnswerSchema = Field(
        default_factory=AnswerSchema,
        description="What a valid answer looks like; goes into policy.json.",
    )
    budget: Budget | None = Field(default=None, description="At what prices it is counted.")
    spent_seconds: int = Field(
        default=0, ge=0, description="How long the pods of earlier attempts ran."
    )
    compute: Compute = Field(default_factory=Compute, description="Where and how wide it runs.")
    checkpoints: Checkpoints = Field(
        default_factory=Checkpoints, description="How often the run is saved."
    )
    store: RunStore = Field(description="Where versions and checkpoints are written.")
    trainer_image: str | None = Field(default=None, description="Image of the pod, as ordered.")

    def input(self, name: str) -> RunInput | None:
        """Return the data input of this name, or None."""
        return next((d for d in self.data if d.name == name), None)

    def reference(self, name: str) -> BaseArtifact | None:
        """Return the artifact that takes part in this role, or None."""
        return next((r.artifact for r in self.references if r.name == name), None)


def parse_run(content: bytes) -> tuple[RunConfig, str | None]:
    """Read run.json, whichever version of the operator wrote it.

    Returns:
        The config, and the path of the first field that this version does not know, if there is
        one: the run does without it.

    Raises:
        ValueError: it is no JSON object, or of another schema version.
        pydantic.ValidationError: a field has another shape.
    """
    remedy = "set spec.trainer.image to a newer trainer image"
    wire = load(content, SCHEMA_VERSION, RUN_FILE, remedy)
    return RunConfig.model_validate(wire, extra="ignore"), unknown_field(RunConfig, wire, "")
