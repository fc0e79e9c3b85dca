"""What the last landed version of our programs wrote, and what its readers take.

`tests/fixtures/landed/write.py` wrote it, in a checkout of that version.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "fixtures" / "landed"
Schema = dict[str, Any]


def load(name: str) -> Any:
    """Return one fixture."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def names(folder: str) -> list[str]:
    """Return the names of the fixtures of a folder."""
    return sorted(f"{folder}/{file.stem}" for file in (FOLDER / folder).glob("*.json"))


def crd(plural: str) -> Schema:
    """Return the schema of a landed CRD."""
    made = yaml.safe_load((FOLDER / "crds" / f"{plural}.yaml").read_text())
    schema: Schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def resolved(node: Schema, root: Schema) -> Schema:
    """Return a schema without its `$ref` and without the null of an optional one."""
    if "$ref" in node:
        return resolved({**root["$defs"][node["$ref"].rsplit("/", 1)[1]], **_less(node)}, root)
    if "anyOf" in node:
        (kept,) = [n for n in node["anyOf"] if n.get("type") != "null"]
        return resolved({**_less(node), **kept}, root)
    return node


def _less(node: Schema) -> Schema:
    return {k: v for k, v in node.items() if k not in ("$ref", "anyOf")}


def refusals(value: Any, node: Schema, root: Schema, at: str = "") -> Iterator[str]:
    """Yield what a strict reader of this schema would refuse: fields and words that are new."""
    node = resolved(node, root)
    if "enum" in node and value not in node["enum"]:
        yield f"{at}: {value!r}"
    if isinstance(value, dict) and "properties" in node:
        yield from (f"{at}.{key}" for key in value if key not in node["properties"])
        yield from (
            f"{at}.{key} is missing" for key in node.get("required", ()) if key not in value
        )
        for key, child in node["properties"].items():
            if key in value:
                yield from refusals(value[key], child, root, f"{at}.{key}")
    if isinstance(value, list) and "items" in node:
        for item in value:
            yield from refusals(item, node["items"], root, f"{at}[]")


def breaks(old: Schema, new: Schema) -> list[str]:
    """Say what a reader or a writer of the old schema would stumble over in the new one."""
    return list(_breaks(old, new, (old, new), ""))


def _breaks(old: Schema, new: Schema, roots: tuple[Schema, Schema], at: str) -> Iterator[str]:
    old, new = resolved(old, roots[0]), resolved(new, roots[1])
    if old.get("type") != new.get("type"):
        yield f"{at} is {new.get('type')} and was {old.get('type')}"
    words = new.get("enum", old.get("enum", ()))
    yield from (f"{at} does not know {w} any more" for w in old.get("enum", ()) if w not in words)
    had, have = old.get("properties", {}), new.get("properties", {})
    yield from (f"{at}.{key} is gone" for key in had if key not in have)
    for key, child in have.items():
        if key in had:
            yield from _breaks(had[key], child, roots, f"{at}.{key}")
        elif not had:
            continue  # anything could be in it
        # pydantic says `null` of what is absent when it is unset, a CRD says nothing at all.
        elif child.get("default", None if "$defs" not in roots[1] else ...) is not None:
            yield f"{at}.{key} is new and not absent when it is unset"
        if key in new.get("required", ()) and key not in old.get("required", ()):
            yield f"{at}.{key} is required now"
    if "items" in old:
        yield from _breaks(old["items"], new.get("items", {}), roots, f"{at}[]")
