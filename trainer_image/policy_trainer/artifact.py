"""Write the artifact of a run: claim its number, write its files, and policy.json last.

The number is the name of a folder, and the folder is claimed exclusively, so it never repeats: not
across restarts, nor when two trainings end at once, nor when the operator forgot everything. A
claim names its training in `.claim.json`: a retry of the same training goes on with its own
unfinished folder, and finds its finished one. No existing folder of another is ever written to.
"""

import hashlib
import json
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import (
    BUNDLE_FOLDER,
    CLAIM,
    EXPORTS_FOLDER,
    MANIFEST,
    Generation,
    ManifestExport,
    ManifestFile,
    NamedArtifact,
    ParentArtifact,
    PolicyManifest,
    parse_manifest,
)
from policy_api.contract.report import ReportedArtifact
from policy_api.contract.run import BaseArtifact, RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.version import version_name

from policy_trainer import bundle, costs
from policy_trainer.result import Evaluated, Trained
from policy_trainer.storage import Store

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "gymnasium",
    "xgboost-cpu",
    "xgboost",
    "bitsandbytes",
    "gguf",
    "onnx",
    "onnxruntime",
)


def owned(store: Store, run: RunConfig) -> list[int]:
    """Return the numbers that this training has claimed before, oldest first."""
    numbers = sorted(int(name) for name in store.names(run.policy) if name.isdecimal())
    return [number for number in numbers if _owner(store, run.policy, number) == run.training.uid]


def _owner(store: Store, policy: str, number: int) -> str | None:
    content = store.read(f"{policy}/{number}/{CLAIM}")
    if content is None:
        return None  # a folder that some person or crash left: nobody's, and never ours
    uid: str = json.loads(content)["uid"]
    return uid


def claim(store: Store, run: RunConfig) -> int:
    """Claim the first free number from the run's lowest; a retry gets the number that it had."""
    before = owned(store, run)
    if before:
        return before[-1]
    text = json.dumps(run.training.to_wire() | {"claimedAt": datetime.now(UTC).isoformat()})
    return next(
        number
        for number in count(run.min_version)
        if store.claim(f"{run.policy}/{number}", CLAIM, text.encode())
    )


def finished(store: Store, run: RunConfig) -> tuple[ReportedArtifact, PolicyManifest] | None:
    """Return the artifact that an earlier attempt of this training finished, if one did."""
    for number in reversed(owned(store, run)):
        content = store.read(f"{run.policy}/{number}/{MANIFEST}")
        if content is not None:
            return _reported(run, number, content), parse_manifest(content)
    return None


def write(
    store: Store, run: RunConfig, trained: Trained, evaluated: Evaluated, began: float
) -> ReportedArtifact:
    """Write the model, its tokenizer and the manifest; return where.

    Args:
        store: Where versions are.
        run: The attempt.
        trained: What it trained.
        evaluated: What that is worth, and its files.
        began: The monotonic time when the attempt began.
    """
    number = claim(store, run)
    folder = f"{run.policy}/{number}"
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch)
        evaluated.write(local)
        exports = _exports(local, run, number, evaluated)
        made = manifest(run, number, trained, evaluated).model_copy(
            update={"exports": exports, "costs": costs.of(run, number, time.monotonic() - began)}
        )
        if run.store.bundle:
            tables = [*evaluated.tables, costs.table(made.costs)]
            bundle.write(local / BUNDLE_FOLDER, made, evaluated.charts, tables)
        files = tuple(
            ManifestFile(
                path=file.relative_to(local).as_posix(),
                sha256=_sha256(file),
                bytes=file.stat().st_size,
            )
            for file in sorted(local.rglob("*"))
            if file.is_file()
        )
        store.upload(local, folder)
    whole = made.model_copy(update={"files": files})
    content = (json.dumps(whole.to_wire(), indent=2) + "\n").encode()
    store.write(f"{folder}/{MANIFEST}", content)
    return _reported(run, number, content)


def _exports(
    local: Path, run: RunConfig, number: int, evaluated: Evaluated
) -> tuple[ManifestExport, ...]:
    if not run.store.exports:
        return ()
    from policy_trainer.exports import write  # noqa: PLC0415 - only who asks for one needs it

    wanted = write.Wanted(run.store.exports, run.store.gguf_types)
    name = version_name(run.policy, number)
    made = write.write(local, local / EXPORTS_FOLDER, evaluated.kind, name, wanted)
    return tuple(e.model_copy(update={"path": f"{EXPORTS_FOLDER}/{e.path}"}) for e in made)


def manifest(
    run: RunConfig,
    number: int,
    trained: Trained,
    evaluated: Evaluated,
) -> PolicyManifest:
    """Return policy.json: what is known of this version before its files are written."""
    config = run.to_wire()
    base = run.base.artifact
    return PolicyManifest(
        policy=run.policy,
        version=number,
        tag=run.tag,
        recipe=run.recipe,
        seed=run.seed,
        created_at=datetime.now(UTC),
        training={key: str(value) for key, value in run.training.to_wire().items()},
        parent=ParentArtifact(**_parent(base)) if base else None,
        base_model=run.base.model,
        config=config,
        config_sha256=hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        data=tuple(trained.data),
        metrics=tuple(evaluated.metrics),
        exit_criteria=criteria.evaluate(run.exit_criteria, evaluated.metrics),
        packages=packages(),
        trainer_image=run.trainer_image,
        answer_schema=run.answer_schema,
        generation=evaluated.generation or Generation(),
        kind=evaluated.kind,
        references=tuple(NamedArtifact(name=r.name, **_parent(r.artifact)) for r in run.references),
        stopped_early=trained.fitted.stopped_early,
        files=(),
    )


def _parent(artifact: BaseArtifact) -> dict[str, Any]:
    return {"policy": artifact.policy, "version": artifact.version, "sha256": artifact.sha256}


def packages() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a recipe may need none of it
    return found


def _reported(run: RunConfig, number: int, content: bytes) -> ReportedArtifact:
    return ReportedArtifact(
        uri=f"{run.store.uri.rstrip('/')}/{run.policy}/{number}",
        sha256=hashlib.sha256(content).hexdigest(),
        version=number,
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
