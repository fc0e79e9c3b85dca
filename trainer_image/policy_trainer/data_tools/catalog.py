"""A catalog of what is under folders: data files and artifacts, each with its checksum."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import CLAIM, MANIFEST, parse_manifest
from policy_api.contract.run import RunInput

from policy_trainer.data import Row
from policy_trainer.data_tools import sources
from policy_trainer.errors import DataInvalidError

DATA = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")

# What rows with these fields are; the first that fits.
KINDS = (
    ({"state", "action", "reward"}, "decisions"),
    ({"prompt", "chosen", "rejected"}, "pairs"),
    ({"input", "output"}, "labelled decisions"),
    ({"prompt", "completion", "label"}, "labelled answers"),
    ({"prompt", "completion"}, "answers"),
    ({"plan"}, "feedback"),
    ({"messages"}, "chats"),
    ({"prompt"}, "prompts"),
)


def catalog(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return an entry for each artifact and data file under folders, by their paths.

    Raises:
        DataInvalidError: a folder or a manifest cannot be read, or there is nothing.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataInvalidError(f"{folder} is no folder")
    entries = [entry for folder in folders for entry in _found(folder)]
    if not entries:
        raise DataInvalidError(f"no data and no artifact in {', '.join(map(str, folders))}")
    return entries


def _found(folder: Path) -> Iterator[dict[str, Any]]:
    for place, inner, names in os.walk(folder):
        here = Path(place)
        inner.sort()
        if MANIFEST in names:
            inner.clear()  # what is in it belongs to it
            yield _artifact(here)
            continue
        for name in sorted(names):
            if name.endswith(DATA):
                yield _data(here / name)


def _data(file: Path) -> dict[str, Any]:
    source = RunInput(name="train", uri=str(file), path=str(file))
    rows, kind = 0, "nothing"
    for _, found in sources.rows(source):
        if rows == 0:
            kind = "unreadable rows" if isinstance(found, DataInvalidError) else _kind(found)
        rows += 1
    return {"path": str(file), "kind": kind, "rows": rows, "files": {"": _file(file)}}


def _kind(first: Row) -> str:
    return next((kind for fields, kind in KINDS if fields <= first.keys()), "a table")


def _artifact(folder: Path) -> dict[str, Any]:
    try:
        made = parse_manifest((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise DataInvalidError(f"{folder / MANIFEST} is no manifest: {error}") from error
    files = {
        file.relative_to(folder).as_posix(): _file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != CLAIM
    }
    return {
        "path": str(folder),
        "kind": f"artifact {made.policy} {made.version}",
        "recipe": made.recipe,
        "created": made.to_wire()["createdAt"],
        **({"tag": made.tag} if made.tag else {}),
        "accepted": all(verdict.met for verdict in made.exit_criteria),
        "metrics": {metric.name: metric.value for metric in made.metrics},
        "files": files,
    }


def _file(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": sha256, "bytes": file.stat().st_size}


def load(file: Path) -> list[dict[str, Any]]:
    """Read a catalog that was written.

    Raises:
        DataInvalidError: it cannot be read, or is none.
    """
    try:
        entries = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataInvalidError(f"{file} is no catalog: {error}") from error
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise DataInvalidError(
            f"{file} is no catalog: wanted a list of entries with path and files"
        )
    return entries


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and {"path", "files"} <= entry.keys()


def faults(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each file of a catalog that is missing or has changed."""
    for entry in entries:
        for name, wanted in entry["files"].items():
            file = Path(entry["path"]) / name if name else Path(entry["path"])
            if not file.is_file():
                yield f"{file} is missing"
                continue
            found = _file(file)
            if found["sha256"] != wanted["sha256"]:
                yield f"{file} has sha256 {found['sha256']}, wanted {wanted['sha256']}"


def told(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of a catalog for people."""
    width = max(len(entry["path"]) for entry in entries)
    for entry in entries:
        size = sum(file["bytes"] for file in entry["files"].values())
        name = "" if "" in entry["files"] else MANIFEST
        sha256 = entry["files"][name]["sha256"]
        more = [f"{entry['rows']:,} rows"] if "rows" in entry else []
        if "recipe" in entry:
            more += [entry["recipe"], entry["created"]]
            more += [entry["tag"]] if "tag" in entry else []
            more += ["accepted" if entry["accepted"] else "not accepted"]
        line = f"{entry['path']:<{width}}  {sha256[:12]}  {size:>13,}  {entry['kind']}"
        yield ", ".join([line, *more])
