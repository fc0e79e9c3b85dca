"""Remove checkpoints that nobody can go on from: those of trainings that failed or were deleted.

    python -m policy_trainer.retention <store> <policy> <uid>

removes those of one training, which the operator knows to have failed for good. What trainings left
that were deleted is found by the next training of the policy, at its end. When in doubt, a folder
stays: its markers must say that it is of our cluster and namespace, whose trainings we know.
"""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from policy_api.contract.checkpoints import CheckpointRules
from policy_api.contract.run import RunConfig, RunTraining

from policy_trainer import storage
from policy_trainer.checkpoint import MARKER, NAME, folder_of, folder_of_policy
from policy_trainer.storage import Store

log = logging.getLogger("policy_trainer")

Marker = dict[str, Any]


def may_go(
    uid: str, markers: Sequence[Marker], rules: CheckpointRules, ours: RunTraining, now: datetime
) -> bool:
    """Whether a training's checkpoints may be removed. Pure.

    Args:
        uid: Name of the folder.
        markers: Of all its complete checkpoints.
        rules: Which trainings there are.
        ours: The training that asks: its namespace is where we know all trainings.
        now: The time, UTC.
    """
    if rules.trainings is None or uid in rules.trainings or uid == ours.uid or not markers:
        return False
    try:
        mine = all(
            (m["training"]["uid"], m["training"]["namespace"], m["cluster"])
            == (uid, ours.namespace, rules.cluster)
            for m in markers
        )
        saved = max(datetime.fromisoformat(m["savedAt"]) for m in markers)
        kept = timedelta(seconds=max(int(m["retentionSeconds"]) for m in markers))
        # One that was saved after the list was made may be of a training that is not in it.
        return mine and saved < rules.as_of and saved + kept <= now
    except (KeyError, TypeError, ValueError, OverflowError):
        return False  # of another version of this program, or of none


def plan(store: Store, run: RunConfig, rules: CheckpointRules, now: datetime) -> list[str]:
    """Return the uids whose checkpoints may be removed."""
    uids = store.names(folder_of_policy(run.policy))
    return [u for u in uids if may_go(u, markers(store, run.policy, u), rules, run.training, now)]


def markers(store: Store, policy: str, uid: str) -> list[Marker]:
    """Return the markers of a training's complete checkpoints; one that can't be read is empty."""
    folder = folder_of(policy, uid)
    found = []
    for name in store.names(folder):
        content = store.read(f"{folder}/{name}/{MARKER}") if NAME.fullmatch(name) else None
        if content is not None:
            try:
                found.append(dict(json.loads(content)))
            except (ValueError, TypeError):
                found.append({})
    return found


def sweep(run: RunConfig, rules: CheckpointRules) -> None:
    """Remove what deleted trainings of the policy have left. It never fails the run."""
    try:
        store = storage.open_store(run.store.path)
        for uid in plan(store, run, rules, datetime.now(UTC)):
            log.info("removing the checkpoints of training %s, which was deleted", uid)
            store.remove(folder_of(run.policy, uid))
    except Exception:
        log.exception("checkpoints of deleted trainings could not be removed")


def main() -> None:
    """Remove the checkpoints of one training."""
    path, policy, uid = sys.argv[1:]
    store, folder = storage.open_store(path), folder_of(policy, uid)
    if store.names(folder):
        store.remove(folder)
        print(f"removed {folder}")  # noqa: T201 - the pod's log


if __name__ == "__main__":
    main()
