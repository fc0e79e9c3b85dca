"""The OCI layout in the cache: the way of images from buildah to containerd.

Compressing a layer is slow and needs to happen once. buildah leaves out a layer whose file a layout
already has, but looks for the uncompressed one; so an empty marker stands in for each layer that is
kept here compressed, and the manifest is corrected afterwards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from locks import exclusive
from settings import CACHE

ROOT = CACHE / "images" / "oci"
Descriptor = dict[str, Any]

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def blob(digest: str, root: Path = ROOT) -> Path:
    """The file that holds what this digest names."""
    algorithm, _, value = digest.partition(":")
    return root / "blobs" / algorithm / value


def receive(push: Callable[[Path], None], root: Path = ROOT) -> Descriptor:
    """Take over the one image that `push` writes into a layout; returns what names it."""
    with exclusive(root.with_name(f"{root.name}.lock")):
        staging = root.with_name(f"{root.name}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        known = _known(root)
        for uncompressed in known:
            marker = blob(uncompressed, staging)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        push(staging)
        descriptor = _take_over(staging, root, known)
        shutil.rmtree(staging)
        return descriptor


def prune(wanted: list[str], root: Path = ROOT) -> None:
    """Delete every blob that none of these manifests (by digest) needs."""
    with exclusive(root.with_name(f"{root.name}.lock")):
        needed = set(wanted)
        for digest in wanted:
            if blob(digest, root).exists():
                manifest = json.loads(blob(digest, root).read_text())
                needed.add(manifest["config"]["digest"])
                needed |= {layer["digest"] for layer in manifest["layers"]}
        for path in root.glob("blobs/*/*"):
            if f"{path.parent.name}:{path.name}" not in needed:
                path.unlink()


def _known(root: Path) -> dict[str, Descriptor]:
    """The layers held here: the digest of the uncompressed layer -> what is held."""
    path = root / "layers.json"
    layers = json.loads(path.read_text()) if path.exists() else {}
    return {name: held for name, held in layers.items() if blob(held["digest"], root).exists()}


def _take_over(staging: Path, root: Path, known: dict[str, Descriptor]) -> Descriptor:
    written = json.loads((staging / "index.json").read_text())["manifests"][0]
    manifest = json.loads(blob(written["digest"], staging).read_text())
    config = manifest["config"]["digest"]
    uncompressed = json.loads(blob(config, staging).read_text())["rootfs"]["diff_ids"]
    _move(config, staging, root)
    for position, name in enumerate(uncompressed):
        if name in known:
            manifest["layers"][position] = known[name]
        else:
            known[name] = manifest["layers"][position]
            _move(known[name]["digest"], staging, root)
    content = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blob(digest, root).write_bytes(content)
    (root / "layers.json").write_text(json.dumps(known))
    return {"mediaType": _MANIFEST_TYPE, "digest": digest, "size": len(content)}


def _move(digest: str, staging: Path, root: Path) -> None:
    target = blob(digest, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    blob(digest, staging).replace(target)
