"""The resolved config of one attempt: the operator writes it, the pod mounts it as run.json."""

from pydantic import Field

from policy_api.base import SHA256, ApiModel
from policy_api.v1alpha1.training import (
    GRPO,
    SFT,
    Adapter,
    AnswerSchema,
    Checkpoints,
    Compute,
    ExitCriterion,
    Recipe,
    Scratch,
)


class RunInput(ApiModel):
    """One data input, resolved to what the pod opens."""

    name: str = Field(description="`train`, `validation`, …")
    uri: str = Field(description="As the user wrote it; this is what goes into the manifest.")
    path: str = Field(description="A local path, or an s3:// URL for fsspec.")
    sha256: str | None = Field(default=None, pattern=SHA256, description="Wanted checksum.")
    max_rows: int | None = Field(default=None, ge=1, description="Take at most this many rows.")


class BaseArtifact(ApiModel):
    """The artifact of another version, which training starts from."""

    uri: str = Field(description="Public URI of its folder.")
    path: str = Field(description="What the pod opens.")
    sha256: str = Field(pattern=SHA256, description="Wanted checksum of its policy.json.")
    policy: str = Field(description="Its policy.")
    version: int = Field(ge=1, description="Its number.")


class RunBase(ApiModel):
    """What training starts from: exactly one is set."""

    model: str | None = Field(default=None, description="Model hub id or path.")
    artifact: BaseArtifact | None = Field(default=None, description="Another version's artifact.")
    scratch: Scratch | None = Field(default=None, description="A small new model.")


class RunStore(ApiModel):
    """Where versions and checkpoints are written."""

    uri: str = Field(description="Public root URI.")
    path: str = Field(description="What the pod opens: a local folder, or an s3:// URL.")


class RunTraining(ApiModel):
    """The PolicyTraining that this attempt is of."""

    namespace: str = Field(description="Its namespace.")
    name: str = Field(description="Its name.")
    uid: str = Field(description="Its uid.")


class RunConfig(ApiModel):
    """Everything that a trainer pod needs to know, but its rank."""

    training: RunTraining = Field(description="The PolicyTraining.")
    attempt: int = Field(ge=0, description="0, 1, 2…")
    policy: str = Field(description="The policy's name.")
    min_version: int = Field(ge=1, description="First number that may be free.")
    tag: str | None = Field(default=None, description="Experiment label.")
    seed: int = Field(default=42, ge=0, description="Seed of everything that is random.")
    recipe: Recipe = Field(description="How the policy is trained.")
    sft: SFT | None = Field(default=None, description="Settings of recipe SFT.")
    grpo: GRPO | None = Field(default=None, description="Settings of recipe GRPO.")
    base: RunBase = Field(description="What training starts from.")
    adapter: Adapter | None = Field(default=None, description="Train an adapter.")
    data: tuple[RunInput, ...] = Field(min_length=1, description="Named inputs.")
    exit_criteria: tuple[ExitCriterion, ...] = Field(default=(), description="Exit criteria.")
    answer_schema: AnswerSchema = Field(
        default_factory=AnswerSchema, description="Goes into the manifest."
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
