"""Files by which the supervisor and its workers talk: the pod's own, in /tmp.

torchrun exits 1 whatever its workers say, and a signal to it kills them 30 s later; so what a
worker has to say, and that it shall stop, travel by file.
"""

import os
from pathlib import Path

from policy_api.contract.report import TrainingReport


def folder() -> Path:
    """Return the folder, which the supervisor makes."""
    return Path(os.environ.get("POLICYOPS_STATE_DIR", "/tmp/policyops"))  # noqa: S108


def stop_file() -> Path:
    """Return the file whose existence asks every worker of the pod to stop."""
    return folder() / "stop"


def write_outcome(rank: int, report: TrainingReport) -> None:
    """Say how this worker ended."""
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / f"outcome-{rank}.json").write_text(report.encode())


def read_outcomes() -> list[TrainingReport]:
    """Return what the pod's workers said, by rank; those that died without a word are missing."""
    files = sorted(folder().glob("outcome-*.json"), key=lambda f: int(f.stem.split("-")[1]))
    return [TrainingReport.model_validate_json(file.read_bytes()) for file in files]
