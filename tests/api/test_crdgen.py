"""The generated CRDs are what the API server takes, and what `kubectl explain` can read aloud."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from policy_api.base import ApiModel
from policy_api.crdgen import KINDS, crd, main, render, structural
from pydantic import Field

Schema = dict[str, Any]
# Keywords of apiextensions.k8s.io/v1 JSONSchemaProps that our models may produce.
KEYWORDS = {
    "type",
    "description",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
}
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def walk(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema below (and with) this one, with the path of its field."""
    yield path or ".", node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(child := node.get(keyword), dict):
            yield from walk(child, f"{path}[]")


def schema(kind: Any) -> Schema:
    return crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@BY_KIND
def test_schema_has_only_keywords_that_the_api_server_knows(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        assert set(node) <= KEYWORDS, path


@BY_KIND
def test_every_node_is_structural(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            continue
        assert node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, (
            path
        )
        assert not ("properties" in node and "additionalProperties" in node), path
        assert ("items" in node) == (node["type"] == "array"), path
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            assert isinstance(node.get(bound, False), bool), path
        assert node.get("default", ...) is not None, path


@BY_KIND
def test_no_object_loses_its_fields(kind: Any) -> None:
    """An object with neither fields nor preserve-unknown-fields would be pruned to nothing."""
    for path, node in walk(schema(kind)):
        if node.get("type") == "object" and path != ".metadata":
            assert (
                node.get("properties")
                or "additionalProperties" in node
                or node.get("x-kubernetes-preserve-unknown-fields")
            ), path


@BY_KIND
def test_every_field_is_described_in_a_sentence(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        name = path.rsplit(".", 1)[1]
        if not path.startswith((".spec", ".status")) or name.endswith("[]"):
            continue
        description = node.get("description", "")
        assert len(description) > len("a."), path
        assert description[0] == description[0].upper() or description[0] in "`0", path
        assert description.endswith((".", "…")), f"{path}: {description}"


@BY_KIND
def test_every_rule_has_a_sentence(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        for validation in node.get("x-kubernetes-validations", []):
            assert validation["rule"], path
            assert len(validation["message"]) > 15, path
            assert "\n" not in validation["message"], path


@BY_KIND
def test_bounded_lists_below_rules(kind: Any) -> None:
    """CEL's cost is estimated from the bounds: a list in spec without one is refused or dear."""
    for path, node in walk(schema(kind)):
        if path.startswith(".spec") and node.get("type") == "array":
            assert "maxItems" in node, path


@BY_KIND
def test_columns_name_fields_that_exist(kind: Any) -> None:
    fields = {path for path, _ in walk(schema(kind))}
    for column in crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].split("[")[0]
        assert path == ".metadata.creationTimestamp" or path in fields, column


@BY_KIND
def test_rendered_file_is_yaml_of_the_crd(kind: Any) -> None:
    text = render(kind)
    assert text.startswith("# Generated")
    assert yaml.safe_load(text) == crd(kind)


def test_check_tells_a_stale_file(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    stale = tmp_path / "policytrainings.yaml"
    stale.write_text(stale.read_text().replace("seed", "sead", 1))
    assert main([str(tmp_path), "--check"]) == 1
    message = capsys.readouterr().err
    assert "policytrainings.yaml" in message
    assert "policydeployments.yaml" not in message


def test_committed_files_are_current() -> None:
    assert main(["crds", "--check"]) == 0


class Inner(ApiModel):
    """An inner part."""

    ratio: float = Field(gt=0, lt=1, description="A ratio.")


class Outer(ApiModel):
    """What the transform has to cope with."""

    inner: Inner | None = Field(default=None, description="The field's own words win.")
    plain: dict[str, int] = Field(default_factory=dict, description="A map.")


class Union(ApiModel):
    """A union of types, which no structural schema expresses."""

    either: int | str = Field(description="One of two.")


def test_transform_inlines_refs_and_turns_exclusive_bounds() -> None:
    raw = Outer.model_json_schema(by_alias=True)
    result = structural(raw, raw["$defs"])
    inner = result["properties"]["inner"]
    assert inner["description"] == "The field's own words win."
    assert "default" not in inner
    assert inner["properties"]["ratio"] == {
        "type": "number",
        "description": "A ratio.",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }
    assert result["properties"]["plain"]["additionalProperties"] == {"type": "integer"}


def test_transform_refuses_a_union_without_discriminator() -> None:
    raw = Union.model_json_schema()
    with pytest.raises(ValueError, match="discriminator"):
        structural(raw, {})
