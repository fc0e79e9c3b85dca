"""Where a training writes its versions, and in which formats."""

from enum import StrEnum

from pydantic import Field

from policy_api.base import DNS_SUBDOMAIN, ApiModel, rule
from policy_api.v1alpha1.recipes.common import TEXT_RECIPES, Recipe

URI = r"^(pvc|s3|file)://.+$"


class Export(StrEnum):
    """A format of a version's model, for other programs."""

    SAFETENSORS = "SafeTensors"
    GGUF = "GGUF"
    ONNX = "ONNX"
    JSON = "JSON"


class GGUFType(StrEnum):
    """How a GGUF file keeps the weights."""

    F32 = "F32"
    F16 = "F16"
    Q8_0 = "Q8_0"


# Which recipes' models there are in which formats.
EXPORTS: dict[Export, tuple[Recipe, ...]] = {
    Export.SAFETENSORS: (*TEXT_RECIPES, Recipe.CQL, Recipe.CONSTRAINED_PPO),
    Export.GGUF: tuple(r for r in TEXT_RECIPES if r is not Recipe.REWARD_MODEL),
    Export.ONNX: (*TEXT_RECIPES, Recipe.CQL, Recipe.CONSTRAINED_PPO),
    Export.JSON: (Recipe.CQL, Recipe.CLASSIFIER, Recipe.PLAN_PREFERENCE),
}


def _export_rule(export: Export, recipes: tuple[Recipe, ...]) -> dict[str, str]:
    quoted = ", ".join(f"'{recipe}'" for recipe in recipes)
    return rule(
        f"!has(self.artifact.exports) || !self.artifact.exports.exists(e, e == '{export}') "
        f"|| self.recipe in [{quoted}]",
        f"artifact.exports: {export} is for recipes {', '.join(recipes)}",
    )


EXPORT_RULES = [_export_rule(export, recipes) for export, recipes in EXPORTS.items()]


class SecretRef(ApiModel):
    """Names a Secret in the same namespace."""

    name: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the Secret.")


class ArtifactStore(ApiModel):
    """Where versions and checkpoints are written."""

    uri: str = Field(
        pattern=URI,
        max_length=960,  # a version's own URI, this and /<policy>/<version>, may have 1,024
        description=(
            "Root folder: pvc://<claim>[/<path>], s3://<bucket>[/<prefix>] or file:///<path>. "
            "Several nodes need one that all of them can write."
        ),
    )
    exports: list[Export] = Field(
        default_factory=list,
        max_length=len(Export),
        description=(
            "Formats of the model for other programs, in the version's folder `exports`: GGUF "
            "(llama.cpp, Ollama), ONNX, JSON. SafeTensors is what the version is made of, asked "
            "for or not."
        ),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    gguf_types: list[GGUFType] = Field(
        default_factory=lambda: [GGUFType.F16],
        min_length=1,
        max_length=len(GGUFType),
        description="How GGUF files keep the weights; a file each.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    bundle: bool = Field(
        default=False,
        description=(
            "Add a report to each version: one HTML file with all charts and tables, and PNG and "
            "CSV beside it."
        ),
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose keys become environment variables, e.g. AWS_ACCESS_KEY_ID.",
    )
