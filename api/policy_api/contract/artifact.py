"""policy.json: the manifest that makes a folder an artifact."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from policy_api.base import SHA256, ApiModel, Metric, Time
from policy_api.contract.versions import load
from policy_api.v1alpha1.budget import Cost
from policy_api.v1alpha1.criteria import CriterionVerdict
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.store import Export, GGUFType
from policy_api.v1alpha1.training import AnswerSchema

MANIFEST = "policy.json"
CLAIM = ".claim.json"
# Beside the model, for people and other programs; a server reads neither.
BUNDLE_FOLDER = "bundle"
EXPORTS_FOLDER = "exports"
SCHEMA_VERSION = 1


class Kind(StrEnum):
    """What an artifact is, and so how it is loaded."""

    CAUSAL_LM = "CausalLM"  # transformers, safetensors
    REWARD_MODEL = "RewardModel"  # transformers with one output, safetensors
    Q_NETWORK = "QNetwork"  # q_policy.json, safetensors
    OFFER_POLICY = "OfferPolicy"  # offer_policy.json, safetensors, the two classifiers
    CLASSIFIER = "Classifier"  # classifier.json
    PLAN_PREFERENCE = "PlanPreference"  # preference_model.json


class ManifestFile(ApiModel):
    """One file of the artifact."""

    path: str = Field(description="Relative to the artifact's folder, with forward slashes.")
    sha256: str = Field(pattern=SHA256, description="SHA-256 of the file.")
    bytes: int = Field(ge=0, description="Size of the file, in bytes.")


class ManifestData(ApiModel):
    """One data input that was used."""

    name: str = Field(description="Name of the input.")
    uri: str = Field(description="Where it came from.")
    sha256: str = Field(pattern=SHA256, description="Checksum of the whole file.")
    rows: int = Field(ge=0, description="Rows that were used.")


class ManifestExport(ApiModel):
    """The model in another format."""

    format: Export = Field(description="Format of the file.")
    gguf_type: GGUFType | None = Field(default=None, description="How GGUF keeps the weights.")
    path: str = Field(description="Name of the file, as in `files`.")
    max_difference: float = Field(
        ge=0,
        description=(
            "Largest difference of an output (a logit, a Q) to the version's own, when it was "
            "read back."
        ),
    )


class Generation(ApiModel):
    """How the server asks the model for an answer."""

    max_new_tokens: int = Field(default=256, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(
        default=0.0, ge=0, description="Sampling temperature; 0 decodes greedily."
    )
    prompt_template: str | None = Field(
        default=None,
        description=(
            "Text with {prompt}; unset: the tokenizer's chat template with one user message."
        ),
    )


class ParentArtifact(ApiModel):
    """The version that training started from."""

    policy: str = Field(description="Policy that the version is of.")
    version: int = Field(ge=1, description="Number of the version.")
    sha256: str = Field(pattern=SHA256, description="Checksum of its policy.json.")


class NamedArtifact(ParentArtifact):
    """A version that took part in a role."""

    name: str = Field(description="Its role: `reward`, `judge` or `version:<N>`.")


class VersionCost(ApiModel):
    """What one version cost."""

    policy: str = Field(description="Policy that the version is of.")
    version: int = Field(ge=1, description="Number of the version.")
    recipe: Recipe = Field(description="Recipe that trained it.")
    cost: Cost = Field(description="What it cost, as its trainer counted.")


class PolicyManifest(ApiModel):
    """policy.json, written last and atomically: a folder without it is no artifact."""

    schema_version: int = Field(
        default=SCHEMA_VERSION, description="Version of policy.json's format."
    )
    policy: str = Field(description="The policy's name.")
    version: int = Field(ge=1, description="Number of the version.")
    tag: str | None = Field(default=None, description="Experiment label.")
    recipe: Recipe = Field(description="Recipe that trained it.")
    seed: int = Field(description="Seed of everything that was random.")
    created_at: Time = Field(description="When it was written.")
    training: dict[str, str] = Field(description="namespace, name, uid of the PolicyTraining.")
    parent: ParentArtifact | None = Field(default=None, description="What it started from.")
    base_model: str | None = Field(default=None, description="Hub id or path it started from.")
    config: dict[str, Any] = Field(description="The run's whole config, as JSON.")
    config_sha256: str = Field(pattern=SHA256, description="Checksum of the config's JSON.")
    data: tuple[ManifestData, ...] = Field(description="Data that was used.")
    metrics: tuple[Metric, ...] = Field(description="Final metrics.")
    exit_criteria: tuple[CriterionVerdict, ...] = Field(
        description="Verdict on each exit criterion."
    )
    packages: dict[str, str] = Field(description="Versions of the packages that trained it.")
    trainer_image: str | None = Field(default=None, description="Image that trained it.")
    kind: Kind = Field(default=Kind.CAUSAL_LM, description="What the server loads it as.")
    references: tuple[NamedArtifact, ...] = Field(
        default=(), description="Other versions' models that took part."
    )
    costs: tuple[VersionCost, ...] = Field(
        default=(),
        description="What the versions cost that this one was made from, and last what it cost.",
    )
    stopped_early: str | None = Field(
        default=None, description="The rule of stopEarly that ended it, as a sentence."
    )
    answer_schema: AnswerSchema = Field(
        default_factory=AnswerSchema, description="What a valid answer looks like."
    )
    generation: Generation = Field(
        default_factory=Generation, description="How answers are generated."
    )
    exports: tuple[ManifestExport, ...] = Field(
        default=(), description="The model in other formats."
    )
    files: tuple[ManifestFile, ...] = Field(description="Every other file of the folder.")


def parse_manifest(content: bytes) -> PolicyManifest:
    """Read policy.json, whichever version of the trainer wrote it: unknown fields are ignored.

    Raises:
        ValueError: it is no JSON object, or of another schema version.
        pydantic.ValidationError: a field has another shape; a ValueError as well.
    """
    remedy = "use an image (or policyctl) as new as the trainer that wrote it"
    wire = load(content, SCHEMA_VERSION, MANIFEST, remedy)
    return PolicyManifest.model_validate(wire, extra="ignore")
