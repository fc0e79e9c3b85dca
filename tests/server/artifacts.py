"""Writes artifacts as a trainer does: files first, policy.json with their checksums last."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POLICY = "review-forge"
VERSION = 3


def manifest_of(contents: Mapping[str, bytes], /, **changes: Any) -> dict[str, Any]:
    """Return a whole manifest for these files; `changes` replaces fields."""
    return {
        "schemaVersion": 1,
        "policy": POLICY,
        "version": VERSION,
        "tag": "exp_001_mvp",
        "recipe": "GRPO",
        "seed": 42,
        "createdAt": "2026-01-02T03:04:05Z",
        "training": {"namespace": "ml", "name": "review-forge-grpo", "uid": "u-1"},
        "config": {},
        "configSha256": "0" * 64,
        "data": [],
        "metrics": [{"name": "reward", "value": 0.8}],
        "exitCriteria": [],
        "packages": {},
        "files": [
            {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in contents.items()
        ],
        **changes,
    }


def write_artifact(
    folder: Path, contents: Mapping[str, bytes] | None = None, /, **changes: Any
) -> str:
    """Write an artifact and return the checksum of its policy.json."""
    if contents is None:
        contents = {"config.json": b"{}", "model.safetensors": b"weights"}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(manifest_of(contents, **changes)).encode()
    (folder / "policy.json").write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def environment(folder: Path | str, sha256: str, **more: str) -> dict[str, str]:
    """Return the environment that the operator gives to a server pod."""
    return {
        "POLICY_ARTIFACT_PATH": str(folder),
        "POLICY_ARTIFACT_SHA256": sha256,
        "POLICY_NAME": POLICY,
        "POLICY_VERSION": str(VERSION),
        **more,
    }
