"""Read one pod of an attempt: is it alive, and how did its trainer end. Pure."""

from dataclasses import dataclass
from datetime import datetime

from policy_api.contract.report import Outcome, TrainingReport, decode

from policy_operator.machinery.cache import Obj, Objs

CONTAINER = "trainer"
_INDEX = "batch.kubernetes.io/job-completion-index"
_DISRUPTIONS = ("Evicted", "Preempting", "NodeShutdown", "NodeLost")


def parse_time(text: str | None) -> datetime | None:
    """Read a Kubernetes timestamp."""
    return datetime.fromisoformat(text) if text else None


def condition(obj: Obj, kind: str) -> Obj | None:
    """Return the object's condition of this type if its status is True."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found["type"] == kind and found["status"] == "True":
            return dict(found)
    return None


def pod_active(pod: Obj) -> bool:
    """Whether the pod may still run something."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def deleted(pod: Obj) -> bool:
    """Whether somebody deletes the pod; it still has its grace time."""
    return "deletionTimestamp" in pod["metadata"]


def pod_index(pod: Obj) -> int:
    """Return the pod's completion index, which is its node rank."""
    meta = pod["metadata"]
    text = (meta.get("annotations") or {}).get(_INDEX) or (meta.get("labels") or {}).get(_INDEX)
    return int(text) if text else 0


def containers(pod: Obj) -> Objs:
    """Return the states of the pod's ordinary containers."""
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def trainer_state(pod: Obj) -> Obj:
    """Return the state of the trainer's container; empty when the kubelet has told none."""
    found = next((s for s in containers(pod) if s["name"] == CONTAINER), {})
    return dict(found.get("state") or {})


def outlived(pod: Obj) -> bool:
    """Whether the trainer has ended and another container, e.g. of a service mesh, goes on.

    Not of a pod that is being deleted: it ends by itself.
    """
    if not pod_active(pod) or deleted(pod) or "terminated" not in trainer_state(pod):
        return False
    others = [s for s in containers(pod) if s["name"] != CONTAINER]
    return any("terminated" not in (s.get("state") or {}) for s in others)


@dataclass(frozen=True)
class PodEnd:
    """How the trainer of one pod ended."""

    index: int
    name: str
    code: int | None
    killed_for_memory: bool
    disrupted: bool
    """Evicted, preempted or shut down with its node."""
    out_of_budget: bool
    """Its activeDeadlineSeconds, which is what the budget had left, is over."""
    deleted: bool
    """Somebody deletes it; the Job controller does so to all pods of a failed Job."""
    at: str
    text: str
    report: TrainingReport | None


def pod_end(pod: Obj) -> PodEnd | None:
    """Return how the pod's trainer ended; None while it may still run."""
    if pod_active(pod) and not outlived(pod):
        return None
    status = pod.get("status") or {}
    terminated = trainer_state(pod).get("terminated") or {}
    text = terminated.get("message") or status.get("message") or ""
    report = decode(text) if text else None
    return PodEnd(
        index=pod_index(pod),
        name=pod["metadata"]["name"],
        code=terminated.get("exitCode"),
        killed_for_memory=terminated.get("reason") == "OOMKilled"
        or (report is not None and report.outcome is Outcome.OUT_OF_MEMORY),
        disrupted=condition(pod, "DisruptionTarget") is not None
        or status.get("reason") in _DISRUPTIONS,
        out_of_budget=status.get("reason") == "DeadlineExceeded",
        deleted=deleted(pod),
        at=terminated.get("finishedAt") or "",
        text=text,
        report=report,
    )
