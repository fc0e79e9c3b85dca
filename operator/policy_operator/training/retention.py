"""How long checkpoints are kept: what the trainer is told, and when a failed training's go. Pure.

The operator has neither the volume nor the bucket's key, and keeps no finalizer. So a short Job of
the trainer image removes what a training has left that failed for good; what deleted ones left is
found by the next training of the policy, by rules that it finds beside its run.json.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from policy_api import reasons
from policy_api.contract.checkpoints import CheckpointRules
from policy_api.contract.report import Outcome
from policy_api.contract.uris import local_path
from policy_api.keys import COND_SUCCEEDED, KIND_TRAINING, LABEL_POLICY, LABEL_SWEEP, LABEL_TRAINING
from policy_api.rules.conditions import get_condition
from policy_api.v1alpha1.training_status import PolicyTrainingStatus

from policy_operator import children
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.events import Event
from policy_operator.training import storage
from policy_operator.training.outcome import job_finished
from policy_operator.training.status import ASK_AGAIN, may_go_on
from policy_operator.training.types import Action, DeleteChild, RemoveCheckpoints, Training

_WEEK = 7 * 24 * 3600  # seconds; how long checkpoints are kept if the spec does not say
_MOST_LISTED = 200  # uids in each run's ConfigMap; with more trainings nothing is removed by a run
_TRIES = 3
SWEEP = "checkpoints"  # value of the label that such Jobs have
# Jobs at a time in a namespace: an operator that learns to remove finds years of them due at once.
_AT_A_TIME = 4
_SECONDS = 3600  # for one try, the wait for a node included
_NAME = 50  # characters of the training's name in the Job's, which pods carry as a label


def job_name(training: Training) -> str:
    """Return the name of the Job that removes a training's checkpoints."""
    return f"{training.meta.name[:_NAME].rstrip('-.')}-sweep"


def _seconds(training: Training) -> int:
    wanted = training.spec.checkpoint_retention_seconds
    return _WEEK if wanted is None else wanted


def rules(
    training: Training, others: Iterable[Mapping[str, Any]], cluster: str, now: datetime
) -> CheckpointRules | None:
    """Return what an attempt's pods are told; None when the cluster is not known.

    Args:
        training: Whose attempt it is.
        others: The PolicyTrainings of its namespace, at least those of its policy.
        cluster: uid of the namespace kube-system; empty when we may not read it.
        now: The time, UTC.
    """
    if not cluster:
        return None
    left = (
        str(obj["metadata"]["uid"])
        for obj in others
        if obj["spec"].get("policy") == training.spec.policy and not _succeeded(obj)
    )
    uids = list(islice(left, _MOST_LISTED + 1))
    return CheckpointRules(
        cluster=cluster,
        retention_seconds=_seconds(training),
        as_of=now.replace(microsecond=0),
        trainings=tuple(sorted(uids)) if len(uids) <= _MOST_LISTED else None,
    )


def _succeeded(obj: Mapping[str, Any]) -> bool:
    """Whether a training has succeeded: its trainer has removed its checkpoints."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == COND_SUCCEEDED and c["status"] == "True" for c in conditions)


@dataclass(frozen=True)
class Retained:
    """What becomes of the checkpoints of a training that has ended."""

    status: PolicyTrainingStatus
    actions: tuple[Action, ...] = ()
    look_again: datetime | None = None
    events: tuple[Event, ...] = ()


def after_the_end(
    training: Training, job: Obj | None, *, busy: bool, others: int, now: datetime
) -> Retained:
    """Say what becomes of the checkpoints of a training that has ended.

    Args:
        training: With the status that was written last.
        job: The Job that removes them, if there is one.
        busy: A pod of the training may still write one.
        others: How many such Jobs run in the namespace.
        now: The time, UTC.
    """
    status = training.status
    done = job is not None and (job_finished(job) or {}).get("type") == "Complete"
    if status.checkpoints_removed_at is not None:
        if job is None or not done:
            return Retained(status)
        meta = job["metadata"]
        return Retained(status, (DeleteChild("Job", meta["name"], meta["uid"]),))
    if done:
        at = now.replace(microsecond=0)
        told = status.model_copy(update={"checkpoints_removed_at": at})
        message = "its checkpoints are removed (checkpointRetentionSeconds)"
        return Retained(told, (), now, (Event("Normal", reasons.CHECKPOINTS_REMOVED, message),))
    if job is not None or busy or not _left_for_good(training) or status.finished_at is None:
        return Retained(status)
    due = status.finished_at + timedelta(seconds=_seconds(training))
    if now >= due and others < _AT_A_TIME:
        return Retained(status, (RemoveCheckpoints(),))
    return Retained(status, (), due if now < due else now + ASK_AGAIN)


def _left_for_good(training: Training) -> bool:
    """Whether the training has left checkpoints from which nothing will ever go on."""
    status = training.status
    end = get_condition(status.conditions, COND_SUCCEEDED)
    if end is None or end.status != "False" or may_go_on(status) or not status.attempts:
        return False
    # In a pod's own files there is nothing left; one that completed has removed them itself.
    stays = not training.spec.artifact.uri.startswith("file://")
    return stays and status.attempts[-1].reason != Outcome.COMPLETED


def job(training: Training, image: str, pod: Obj, container: Obj) -> Obj:
    """Return the Job that removes the checkpoints of a training that failed for good.

    Args:
        training: Whose.
        image: The trainer image.
        pod: Spec of a trainer's pod as far as it is the same, without containers.
        container: The same of its container.
    """
    meta, spec = training.meta, training.spec
    name = job_name(training)
    labels = {LABEL_POLICY: spec.policy}
    volumes, mounts = storage.own_volumes(training)
    path = local_path(spec.artifact.uri)
    command = ["python", "-m", "policy_trainer.retention", path, spec.policy, meta.uid]
    made = {
        **container,
        "name": "retention",
        "image": image,
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - an emptyDir of the pod
        "envFrom": [{"secretRef": {"name": s}} for s in storage.secrets(training, {})],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "volumeMounts": mounts,
    }
    template = {
        # Not the training's label: it is no pod of an attempt.
        "metadata": {"labels": children.managed(labels)},
        "spec": {**pod, "containers": [made], "volumes": volumes},
    }
    owned = {**labels, LABEL_TRAINING: meta.name, LABEL_SWEEP: SWEEP}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": children.metadata(KIND_TRAINING, meta, name, owned),
        "spec": {
            "backoffLimit": _TRIES - 1,
            "activeDeadlineSeconds": _TRIES * _SECONDS,
            "template": template,
        },
    }
