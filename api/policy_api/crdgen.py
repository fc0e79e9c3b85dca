"""Generate crds/*.yaml from the pydantic models: structural schemas with CEL rules.

`python -m policy_api.crdgen [DIR]` writes them, `--check` fails when they differ from the tree.
The API server refuses pydantic's JSON schema as it is: it wants no `$ref`, no `type: null`, no
`additionalProperties` beside `properties`, and boolean exclusive bounds (OpenAPI v3.0).
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import core_schema
from typing_extensions import override

from policy_api.base import ApiModel
from policy_api.keys import API_VERSION, GROUP
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_api.v1alpha1.names import DEPLOYMENT, TRAINING, VERSION, Names
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_api.v1alpha1.version import PolicyVersionSpec, PolicyVersionStatus

Schema = dict[str, Any]
_DROPPED = ("title", "$defs", "discriminator")


@dataclass(frozen=True)
class Column:
    """One printer column; priority 1 shows with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def to_wire(self) -> Schema:
        """Return the CRD's form."""
        column: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            column["description"] = self.description
        if self.priority:
            column["priority"] = self.priority
        return column


@dataclass(frozen=True)
class Kind:
    """One resource of the API."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[Column, ...]
    names: Names


AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS = (
    Kind(
        kind="PolicyTraining",
        plural="policytrainings",
        short="ptrain",
        description="Turns data into a policy version that exit criteria accept or reject.",
        spec=PolicyTrainingSpec,
        status=PolicyTrainingStatus,
        columns=(
            Column("Policy", ".spec.policy"),
            Column("Recipe", ".spec.recipe"),
            Column("Version", ".status.version", "integer"),
            Column("State", ".status.state"),
            Column("Step", ".status.progress.step", "integer"),
            Column("Done", ".status.progress.percent", "integer", description="Percent."),
            Column("Cost", ".status.cost.usd", "number", description="USD."),
            Column("Left", ".status.progress.remainingSeconds", "integer", 1, "Seconds."),
            Column("Attempts", ".status.attempts[-1:].index", "integer", 1),
            Column("Tag", ".spec.tag", priority=1),
            AGE,
        ),
        names=TRAINING,
    ),
    Kind(
        kind="PolicyDeployment",
        plural="policydeployments",
        short="pdep",
        description="Turns a policy version into safe traffic: steps, alerts, rollback.",
        spec=PolicyDeploymentSpec,
        status=PolicyDeploymentStatus,
        columns=(
            Column("Policy", ".spec.policy"),
            Column("Stable", ".status.stable.version", "integer"),
            Column("Candidate", ".status.candidate.version", "integer"),
            Column("Step", ".status.candidate.stepName"),
            Column("Weight", ".status.candidate.weight", "integer", description="Percent."),
            Column("State", ".status.state"),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
            Column("URL", ".status.url", priority=1),
            AGE,
        ),
        names=DEPLOYMENT,
    ),
    Kind(
        kind="PolicyVersion",
        plural="policyversions",
        short="pver",
        description="The registry's record of one trained version; written by the operator.",
        spec=PolicyVersionSpec,
        status=PolicyVersionStatus,
        columns=(
            Column("Policy", ".spec.policy"),
            Column("Version", ".spec.version", "integer"),
            Column("Accepted", ".status.conditions[?(@.type=='Accepted')].status"),
            Column("Serving", ".status.serving[*].deployment"),
            Column("Rejected", ".status.conditions[?(@.type=='Rejected')].reason"),
            Column("Training", ".spec.training.name"),
            Column("Recipe", ".spec.recipe", priority=1),
            Column("Tag", ".spec.tag", priority=1),
            Column("Cost", ".spec.cost.usd", "number", 1, "USD."),
            Column("Artifact", ".spec.artifact.uri", priority=1),
            AGE,
        ),
        names=VERSION,
    ),
)


class WithDefaults(GenerateJsonSchema):
    """pydantic's JSON schema, with the defaults that a factory makes.

    `kubectl get -o yaml` then shows what an absent part means. An empty list says nothing, and a
    part with only defaults is `{}`: the API server fills in its fields.
    """

    @override
    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        factory = schema.get("default_factory")
        if factory is None or schema.get("default_factory_takes_data"):
            return super().get_default_value(schema)
        value: Any = factory()  # type: ignore[call-arg]  # it takes no data, as was just asked
        if isinstance(value, BaseModel):
            return {}
        if isinstance(value, list) and value:
            return [v.to_wire() if isinstance(v, ApiModel) else v for v in value]
        return NoDefault


def _openapi_v3(node: Schema) -> Schema:
    """Turn JSON Schema's keywords into those of OpenAPI v3.0, without the children."""
    node = {k: v for k, v in node.items() if k not in _DROPPED}
    if node.get("default", ...) is None:
        del node["default"]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            node[bound] = node.pop(exclusive)
            node[exclusive] = True
    if "description" in node:
        node["description"] = re.sub(r"\s+", " ", node["description"]).strip()
    return node


def structural(schema: Schema, defs: dict[str, Schema]) -> Schema:
    """Return the schema as the API server takes it."""
    node = dict(schema)
    if ref := node.pop("$ref", None):
        # Beside a $ref pydantic puts the field's own description and extras, which win.
        return structural({**defs[ref.rsplit("/", 1)[1]], **node}, defs)
    if options := node.pop("anyOf", None):
        kept = [o for o in options if o.get("type") != "null"]
        if len(kept) != 1:
            raise ValueError(f"a union needs a discriminator field, not anyOf: {options}")
        return structural({**kept[0], **node}, defs)
    node = _openapi_v3(node)
    if properties := node.get("properties"):
        node["properties"] = {k: structural(v, defs) for k, v in properties.items()}
        node.pop("additionalProperties", None)
    elif isinstance(extra := node.get("additionalProperties"), dict):
        node["additionalProperties"] = structural(extra, defs)
    elif node.get("type") == "object":
        node.pop("additionalProperties", None)
    if "items" in node:
        node["items"] = structural(node["items"], defs)
    return node


def crd(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    parts: dict[str, Schema] = {}
    for part, model in (("spec", kind.spec), ("status", kind.status)):
        raw = model.model_json_schema(by_alias=True, schema_generator=WithDefaults)
        parts[part] = structural(raw, raw.get("$defs", {}))
    root: Schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": kind.names.limit}},
            },
            **parts,
        },
    }
    if kind.names.rules:
        root["x-kubernetes-validations"] = list(kind.names.rules)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "policy-operator"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["policies"],
            },
            "versions": [
                {
                    "name": API_VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [c.to_wire() for c in kind.columns],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def render(kind: Kind) -> str:
    """Return the YAML file of a kind."""
    head = "# Generated from api/policy_api by `make crds`; edit the models instead.\n"
    return head + yaml.safe_dump(crd(kind), sort_keys=False, width=100)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; return the process's exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("directory", nargs="?", default="crds", type=Path)
    parser.add_argument("--check", action="store_true", help="fail when a file is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for kind in KINDS:
        path: Path = options.directory / f"{kind.plural}.yaml"
        text = render(kind)
        if options.check:
            if not path.exists() or path.read_text() != text:
                stale.append(str(path))
        else:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"out of date, run `make crds`: {', '.join(stale)}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
