"""How far the pods of an attempt are that has not ended, and what they wait for. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from policy_api import reasons

from policy_operator.machinery.cache import Obj
from policy_operator.training.pods import (
    CONTAINER,
    condition,
    containers,
    deleted,
    parse_time,
    pod_active,
    trainer_state,
)
from policy_operator.training.types import Lingering, Silence, Stall

_INVALID_NAME = "InvalidImageName"
_IMAGE_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    _INVALID_NAME,
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
}
_QUIET = {"ContainerCreating", "PodInitializing"}


@dataclass(frozen=True)
class Start:
    """How far an attempt is."""

    running: bool
    """All of its pods run, or have finished well."""
    reason: str
    message: str
    stall: Stall | None = None
    silence: Silence | None = None


def start(job: Obj, pods: Mapping[int, Obj]) -> Start:
    """Return how far an attempt is that has not ended.

    Args:
        job: Its Job.
        pods: The Job's newest pod of each index.
    """
    nodes = int(job["spec"].get("completions") or 1)
    up = [p for p in pods.values() if _runs(p)]
    done = [p for p in pods.values() if _finished(p)]
    told = f"{len(up)} of {nodes} pods run" + (f", {len(done)} finished" if done else "")
    if (broken := next(_broken(pods.values()), None)) is not None:
        return Start(False, reasons.ENDING, f"{told}; {broken}")
    if len(up) + len(done) >= nodes:
        return Start(True, reasons.TRAINING, told)
    waiting = [p for p in pods.values() if p not in up and p not in done]
    if unplaced := next(_unschedulable(waiting), None):
        return Start(False, reasons.UNSCHEDULABLE, unplaced)
    if stalls := [s for p in waiting if (s := _stall(p)) is not None]:
        worst = min(stalls, key=lambda s: s.reason != reasons.IMAGE_NOT_FOUND)
        return Start(False, worst.reason, worst.message, stall=worst)
    return Start(False, reasons.STARTING, told, silence=_silence(job, nodes, pods, waiting))


def _runs(pod: Obj) -> bool:
    state = trainer_state(pod)
    phase = (pod.get("status") or {}).get("phase")
    return phase == "Running" and not deleted(pod) and not {"terminated", "waiting"} & set(state)


def _exit_code(pod: Obj) -> int | None:
    code = (trainer_state(pod).get("terminated") or {}).get("exitCode")
    return int(code) if code is not None else None


def _finished(pod: Obj) -> bool:
    """Whether the pod's trainer ended well."""
    return (pod.get("status") or {}).get("phase") == "Succeeded" or _exit_code(pod) == 0


def _broken(pods: Iterable[Obj]) -> Iterator[str]:
    """Say of each pod that has failed or is being deleted that it is so."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        code = _exit_code(pod)
        if _finished(pod):
            continue
        if status.get("phase") == "Failed" or code is not None:
            how = f"with exit code {code}" if code is not None else "without an exit code"
            why = f" ({status['reason']})" if status.get("reason") else ""
            yield f"pod {name} ended {how}{why}"
        elif deleted(pod):
            target = condition(pod, "DisruptionTarget") or {}
            why = f" ({target['reason']})" if target.get("reason") else ""
            yield f"pod {name} is being deleted{why}"


def _unschedulable(pods: Iterable[Obj]) -> Iterator[str]:
    for pod in pods:
        for found in (pod.get("status") or {}).get("conditions") or ():
            if found["type"] == "PodScheduled" and found.get("reason") == "Unschedulable":
                name = pod["metadata"]["name"]
                yield f"pod {name} finds no node: {found.get('message', '')}"


def _stall(pod: Obj) -> Stall | None:
    """Return why a container of the pod can't be started; None when nobody complains.

    A container that others have put into the pod holds the trainer up as well.
    """
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *containers(pod)):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason", ""), waiting.get("message", "")
        ours = container["name"] == CONTAINER
        whose = "" if ours else f" of container {container['name']}"
        if reason in _IMAGE_REASONS:
            image = _image(pod, container["name"])
            message = f"pod {name} can't get image {image}{whose} ({reason}): {said}".rstrip(": ")
            final = ours and reason == _INVALID_NAME
            return Stall(reasons.IMAGE_NOT_FOUND, message, final=final)
        if reason and reason not in _QUIET:
            message = f"pod {name} does not start{whose} ({reason}): {said}".rstrip(": ")
            return Stall(reasons.CONTAINER_NOT_STARTED, message)
    return None


def _image(pod: Obj, container: str) -> str:
    spec = pod["spec"]
    every = (*(spec.get("initContainers") or ()), *spec["containers"])
    return next((str(c["image"]) for c in every if c["name"] == container), "")


def _silence(
    job: Obj, nodes: int, pods: Mapping[int, Obj], waiting: Iterable[Obj]
) -> Silence | None:
    """Return whose Events may say why the attempt does not start."""
    if job["spec"].get("suspend"):
        return None
    meta = job["metadata"]
    if len(pods) < nodes:
        since = (job.get("status") or {}).get("startTime") or meta["creationTimestamp"]
        newest = max((p["metadata"]["creationTimestamp"] for p in pods.values()), default=None)
        return Silence(
            "Job",
            meta["name"],
            meta["uid"],
            datetime.fromisoformat(since),
            parse_time(newest),
        )
    for pod in waiting:
        placed = condition(pod, "PodScheduled")
        since = parse_time((placed or {}).get("lastTransitionTime"))
        if since is not None:
            mine = pod["metadata"]
            return Silence("Pod", mine["name"], mine.get("uid", ""), since)
    return None


def lingering(pods: Iterable[Obj]) -> tuple[Lingering, ...]:
    """Return the pods that are being deleted and have not ended."""
    return tuple(
        Lingering(
            name=pod["metadata"]["name"],
            node=pod["spec"].get("nodeName") or "",
            due=datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]),
        )
        for pod in pods
        if deleted(pod) and pod_active(pod)
    )
