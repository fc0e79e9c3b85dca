"""Where a run is saved, so that it can go on from there as if nothing had happened.

A checkpoint is complete once its marker is there, which is written last, by rank 0, after every
process has written its part; a run goes on from the newest complete one and removes torn ones.
"""

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from policy_api.contract import environment
from policy_api.contract.checkpoints import CheckpointRules
from policy_api.contract.run import RunConfig

from policy_trainer import process as processes
from policy_trainer import storage
from policy_trainer.process import Process

MARKER = "complete.json"
BESIDE = "beside"  # folder of what is kept, but is no part of one checkpoint
NAME = re.compile(r"checkpoint-(\d+)")

log = logging.getLogger(__name__)


def folder_of_policy(policy: str) -> str:
    """Return the folder with the checkpoints of all trainings of a policy."""
    return f"{policy}/checkpoints"


def folder_of(policy: str, uid: str) -> str:
    """Return the folder with a training's checkpoints.

    Raises:
        ValueError: the uid is no name of a folder; nothing above it must be meant by accident.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", uid):
        raise ValueError(f"{uid!r} is no uid")
    return f"{folder_of_policy(policy)}/{uid}"


def read_rules() -> CheckpointRules | None:
    """Return what the operator says about keeping checkpoints; None outside of a cluster."""
    run = os.environ.get("POLICYOPS_RUN_FILE", f"{environment.RUN_DIR}/{environment.RUN_FILE}")
    try:
        content = Path(run).with_name(environment.RULES_FILE).read_bytes()
        return CheckpointRules.model_validate_json(content)
    except (OSError, ValueError):
        return None  # without rules nothing is ever removed


def mark(run: RunConfig, rules: CheckpointRules | None) -> dict[str, Any]:
    """Return what a marker says of its training: by it alone is known whose a folder is."""
    if rules is None:
        return {}
    return {
        "training": run.training.to_wire(),
        "cluster": rules.cluster,
        "retentionSeconds": rules.retention_seconds,
    }


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training, in the store or, for a bucket, with a copy here."""

    store: storage.Store
    folder: str  # in the store
    local: Path  # what transformers writes to and reads from
    process: Process
    keep: int
    mark: dict[str, Any] = field(default_factory=dict)  # what a marker says beside the step

    @classmethod
    def open(cls, run: RunConfig, process: Process) -> Self:
        """Return the checkpoints of this run's training."""
        store = storage.open_store(run.store.path)
        folder = folder_of(run.policy, run.training.uid)
        local = storage.local_folder(store, folder) or Path("/tmp/checkpoints", run.training.uid)  # noqa: S108 - the pod's own
        marked = mark(run, read_rules())
        return cls(store, folder, local, process, run.checkpoints.keep, marked)

    @property
    def _copied(self) -> bool:
        return storage.local_folder(self.store, self.folder) is None

    def steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, oldest first."""
        found = (NAME.fullmatch(name) for name in self.store.names(self.folder))
        steps = sorted(int(match[1]) for match in found if match)
        return [s for s in steps if self.store.read(f"{self.folder}/checkpoint-{s}/{MARKER}")]

    def newest(self) -> Path | None:
        """Return a local folder with the newest complete checkpoint; all must call it."""
        steps = self.steps()
        processes.wait_for_all(self.process)  # all have looked, now one may remove
        if self.process.first:
            for name in self.store.names(self.folder):
                match = NAME.fullmatch(name)
                if match and int(match[1]) not in steps:
                    log.warning("removing the torn checkpoint %s", name)
                    self.store.remove(f"{self.folder}/{name}")
        path = self.local / f"checkpoint-{steps[-1]}" if steps else None
        if path is not None and self._copied and self.process.first_of_node:
            self.store.download(f"{self.folder}/{path.name}", path)
        processes.wait_for_all(self.process)
        return path

    def beside(self, name: str) -> Path:
        """Return a local file, as an earlier attempt has left it, that is kept until the run's end.

        A bucket has it as of the newest checkpoint.
        """
        file = self.local / BESIDE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if self._copied and not file.exists():
            file.write_bytes(self.store.read(f"{self.folder}/{BESIDE}/{name}") or b"")
        return file

    def complete(self, step: int) -> None:
        """Make the checkpoint of this step count, then forget old ones; all must call it."""
        name = f"checkpoint-{step}"
        processes.wait_for_all(self.process)  # every process has written its part
        if self._copied and self.process.first_of_node:
            self.store.upload(self.local / name, f"{self.folder}/{name}")
            shutil.rmtree(self.local / name)
            if (self.local / BESIDE).is_dir():
                self.store.upload(self.local / BESIDE, f"{self.folder}/{BESIDE}")
        processes.wait_for_all(self.process)  # every node has copied its part
        if self.process.first:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            marker = {
                "step": step,
                "processes": self.process.world_size,
                "savedAt": at,
                **self.mark,
            }
            self.store.write(f"{self.folder}/{name}/{MARKER}", json.dumps(marker).encode())
            for old in self.steps()[: -self.keep]:
                self.store.remove(f"{self.folder}/checkpoint-{old}")

    def forget(self) -> None:
        """Remove all of them: the training has its artifact."""
        if self.process.first and self.store.names(self.folder):
            self.store.remove(self.folder)
