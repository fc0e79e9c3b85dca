"""Read one attempt: does its Job run, what does it wait for, how did it end. Pure.

Which of several pods is to blame: when one pod of a Job fails, the Job controller deletes the
others, so a pod that is being deleted tells how it was stopped, not why the Job failed. A pod that
ended by itself does. Bad input and lack of memory are told by any pod.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from policy_api import reasons
from policy_api.contract.report import Outcome, TrainingReport, decode
from policy_api.keys import (
    ANNOTATION_BASE,
    ANNOTATION_STOPPED_BY,
    EXIT_CONFIG_INVALID,
    EXIT_DATA_INVALID,
    EXIT_PREEMPTED,
    LABEL_ATTEMPT,
)

from policy_operator.machinery.cache import Obj
from policy_operator.training.types import AttemptView, End

CONTAINER = "trainer"
_INDEX = "batch.kubernetes.io/job-completion-index"
_IMAGE_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
}
_QUIET = {"ContainerCreating", "PodInitializing"}
_TAIL = 400  # characters of a log's end that a status message quotes


def parse_time(text: str | None) -> datetime | None:
    """Read a Kubernetes timestamp."""
    return datetime.fromisoformat(text) if text else None


def condition(obj: Obj, kind: str) -> Obj | None:
    """Return the object's condition of this type if its status is True."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found["type"] == kind and found["status"] == "True":
            return dict(found)
    return None


def job_finished(job: Obj) -> Obj | None:
    """Return the Job's terminal condition; it comes only when all its pods have ended."""
    return condition(job, "Complete") or condition(job, "Failed")


def pod_active(pod: Obj) -> bool:
    """Whether the pod may still run something."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def pod_index(pod: Obj) -> int:
    """Return the pod's completion index, which is its node rank."""
    meta = pod["metadata"]
    text = (meta.get("annotations") or {}).get(_INDEX) or (meta.get("labels") or {}).get(_INDEX)
    return int(text) if text else 0


@dataclass(frozen=True)
class PodEnd:
    """How one pod ended."""

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


def _container(pod: Obj) -> Obj:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((dict(s) for s in statuses if s["name"] == CONTAINER), {})


def pod_end(pod: Obj) -> PodEnd | None:
    """Return how the pod ended; None while it is active."""
    if pod_active(pod):
        return None
    status = pod.get("status") or {}
    terminated = (_container(pod).get("state") or {}).get("terminated") or {}
    text = terminated.get("message") or status.get("message") or ""
    report = decode(text) if text else None
    return PodEnd(
        index=pod_index(pod),
        name=pod["metadata"]["name"],
        code=terminated.get("exitCode"),
        killed_for_memory=terminated.get("reason") == "OOMKilled"
        or (report is not None and report.outcome is Outcome.OUT_OF_MEMORY),
        disrupted=condition(pod, "DisruptionTarget") is not None
        or status.get("reason") in ("Evicted", "Preempting", "NodeShutdown", "NodeLost"),
        out_of_budget=status.get("reason") == "DeadlineExceeded",
        deleted="deletionTimestamp" in pod["metadata"],
        at=terminated.get("finishedAt") or "",
        text=text,
        report=report,
    )


def _sentence(end: PodEnd) -> str:
    """Say why a pod failed: its report's words, else the end of its log, else the exit code."""
    if end.report is not None and end.report.message:
        where = f"{end.report.field}: " if end.report.field else ""
        return where + end.report.message
    code = "without an exit code" if end.code is None else f"with exit code {end.code}"
    if end.report is None and end.text.strip():
        return f"pod {end.name} ended {code}: …{end.text.strip()[-_TAIL:]}"
    return f"pod {end.name} ended {code}"


def _memory_message(end: PodEnd, limit: str | None) -> str:
    said = f": {end.report.message}" if end.report is not None and end.report.message else ""
    if limit is None:
        return (
            f"pod {end.name} ran out of memory{said}; it has no limit of its own "
            "(spec.compute.resources.limits.memory), so its node ran out"
        )
    return (
        f"pod {end.name} ran out of memory{said}; its limit is {limit}: raise "
        "spec.compute.resources.limits.memory, or lower batchSize or maxLength"
    )


def memory_limit(job: Obj) -> str | None:
    """Return the trainer container's memory limit, as the user wrote it."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        if container["name"] == CONTAINER:
            limits = (container.get("resources") or {}).get("limits") or {}
            return str(limits["memory"]) if "memory" in limits else None
    return None


def _first_report(ends: Iterable[PodEnd]) -> TrainingReport | None:
    """Return rank 0's report, or whichever names an artifact."""
    reports = [e.report for e in sorted(ends, key=lambda e: e.index) if e.report is not None]
    return next((r for r in reports if r.artifact is not None), reports[0] if reports else None)


def completed(ends: Sequence[PodEnd], at: datetime | None) -> End:
    """Judge a Job that completed."""
    report = _first_report(ends)
    if report is not None and report.artifact is not None:
        return End(Outcome.COMPLETED, "the trainer has finished", at, report)
    if not any(e.index == 0 for e in ends):
        message = "its first pod is gone, and its report with it; the next attempt reports again"
        return End(Outcome.PREEMPTED, message, at, report)
    message = "the trainer ended well but reported no artifact (its termination message)"
    return End(Outcome.TRAINER_FAILED, message, at, report)


def failed(  # noqa: PLR0911 - one return a cause, the gravest first
    job: Obj, ends: Sequence[PodEnd], at: datetime | None
) -> End:
    """Judge a Job that failed."""
    why = job_finished(job) or {}
    if why.get("reason") == "DeadlineExceeded":
        return End(reasons.DEADLINE_EXCEEDED, "activeDeadlineSeconds is over", at)
    report = _first_report(ends)
    for code, outcome in (
        (EXIT_CONFIG_INVALID, Outcome.CONFIG_INVALID),
        (EXIT_DATA_INVALID, Outcome.DATA_INVALID),
    ):
        bad = next((e for e in ends if e.code == code), None)
        if bad is not None:
            return End(outcome, _sentence(bad), at, bad.report or report)
    if any(e.out_of_budget for e in ends):
        return End(
            reasons.BUDGET_EXCEEDED, "its pods ran for as long as the budget let them", at, report
        )
    starved = next((e for e in ends if e.killed_for_memory), None)
    if starved is not None:
        return End(Outcome.OUT_OF_MEMORY, _memory_message(starved, memory_limit(job)), at, report)
    disrupted = next((e for e in ends if e.disrupted), None)
    if disrupted is not None:
        message = f"pod {disrupted.name} was evicted, preempted or lost its node"
        return End(Outcome.PREEMPTED, message, at, report)
    # The first that ended by itself is the cause; at the same second a preemption is believed,
    # for a rank whose peer went away often ends with an error.
    own = [e for e in ends if not e.deleted and e.code != 0]
    own.sort(key=lambda e: (e.at, e.code != EXIT_PREEMPTED))
    if not own:
        return End(Outcome.PREEMPTED, "a pod of it was deleted", at, report)
    if own[0].code == EXIT_PREEMPTED:
        message = "the trainer was told to stop and saved a checkpoint"
        return End(Outcome.PREEMPTED, message, at, report)
    return End(Outcome.TRAINER_FAILED, _sentence(own[0]), at, own[0].report or report)


def _waits_for(pod: Obj) -> tuple[str, str] | None:
    """Return (reason, message) of a pod that does not run yet; None when nothing is wrong."""
    name = pod["metadata"]["name"]
    for found in (pod.get("status") or {}).get("conditions") or ():
        if found["type"] == "PodScheduled" and found.get("reason") == "Unschedulable":
            return reasons.UNSCHEDULABLE, f"pod {name} finds no node: {found.get('message', '')}"
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _IMAGE_REASONS:
        image = next(
            (c["image"] for c in pod["spec"]["containers"] if c["name"] == CONTAINER), "its image"
        )
        return (
            reasons.IMAGE_NOT_FOUND,
            f"pod {name} can't get image {image} ({reason}): {message}".rstrip(": "),
        )
    if reason and reason not in _QUIET:
        said = f"pod {name} does not start ({reason}): {message}".rstrip(": ")
        return reasons.CONTAINER_NOT_STARTED, said
    return None


_GRAVITY = {reasons.UNSCHEDULABLE: 0, reasons.IMAGE_NOT_FOUND: 1, reasons.CONTAINER_NOT_STARTED: 2}


def progress_of_start(job: Obj, pods: Mapping[int, Obj]) -> tuple[bool, str, str]:
    """Return (all pods run, reason, message) of an attempt that has not ended."""
    nodes = int(job["spec"].get("completions") or 1)
    up = [p for p in pods.values() if (p.get("status") or {}).get("phase") != "Pending"]
    if len(up) >= nodes:
        return True, reasons.TRAINING, f"{nodes} of {nodes} pods run"
    waits = [w for p in pods.values() if p not in up and (w := _waits_for(p)) is not None]
    if waits:
        reason, message = min(waits, key=lambda w: _GRAVITY[w[0]])
        return False, reason, message
    return False, reasons.STARTING, f"{len(up)} of {nodes} pods run"


def held(job: Obj, why: str) -> str:
    """Say that somebody else has suspended the Job, and why, if they say so."""
    told = f" ({why})" if why else ""
    return (
        f"Job {job['metadata']['name']} is suspended, not by this operator{told}; "
        "the training goes on when the Job is resumed"
    )


def newest_pods(job: Obj, pods: Iterable[Obj]) -> dict[int, Obj]:
    """Return the newest pod of each index among those that belong to this very Job."""
    uid = job["metadata"]["uid"]
    found: dict[int, Obj] = {}
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        if not any(o["uid"] == uid for o in owners):
            continue
        index = pod_index(pod)
        old = found.get(index)
        created = pod["metadata"].get("creationTimestamp", "")
        if old is None or old["metadata"].get("creationTimestamp", "") <= created:
            found[index] = pod
    return found


def view(job: Obj, pods: Iterable[Obj], *, complete: bool) -> AttemptView:
    """Return what decisions need to know of a Job and its pods."""
    meta = job["metadata"]
    mine = newest_pods(job, pods)
    suspended = bool(job["spec"].get("suspend"))
    marked = ANNOTATION_STOPPED_BY in (meta.get("annotations") or {})
    stopping = suspended and marked
    suspension = condition(job, "Suspended") or {}
    ends = [e for pod in mine.values() if (e := pod_end(pod)) is not None]
    pods_active = any(pod_active(p) for p in mine.values())
    finished = job_finished(job)
    end: End | None = None
    if finished is not None:
        at = parse_time(finished.get("lastTransitionTime"))
        end = completed(ends, at) if finished["type"] == "Complete" else failed(job, ends, at)
    # A suspended Job that the Job controller has seen and whose pods are all gone has ended.
    elif stopping and suspension and not pods_active:
        report = _first_report(ends)
        end = End(reasons.SUSPENDED, "stopped as asked; its checkpoint is kept", None, report)
    if end is not None and stopping and end.reason == Outcome.PREEMPTED:
        end = End(reasons.SUSPENDED, "stopped as asked; its checkpoint is kept", end.at, end.report)
    running, reason, message = progress_of_start(job, mine)
    if suspended and not marked:
        running, reason, message = pods_active, reasons.JOB_SUSPENDED, held(job, "")
    starts = [t for p in mine.values() if (t := (p.get("status") or {}).get("startTime"))]
    return AttemptView(
        index=int(meta["labels"][LABEL_ATTEMPT]),
        job=meta["name"],
        uid=meta["uid"],
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        base_version=(meta.get("annotations") or {}).get(ANNOTATION_BASE),
        running_since=parse_time(min(starts, default=None)),
        running=running,
        reason=reason,
        message=message,
        stopping=stopping,
        suspended=suspended and not marked,
        suspended_at=parse_time(suspension.get("lastTransitionTime")),
        resumed=marked and not suspended,
        job_started_at=parse_time((job.get("status") or {}).get("startTime")),
        deadline_seconds=job["spec"].get("activeDeadlineSeconds"),
        pods_active=pods_active,
        complete=complete,
        end=end,
    )
