"""Read one attempt: does its Job run, what does it wait for, how did it end. Pure.

Which of several pods is to blame: when one pod of a Job fails, the Job controller deletes the
others, so a pod that is being deleted tells how it was stopped, not why the Job failed. A pod that
ended by itself does. Bad input and lack of memory are told by any pod.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from policy_api import reasons
from policy_api.contract.report import Outcome, TrainingReport
from policy_api.keys import (
    ANNOTATION_BASE,
    ANNOTATION_STOPPED_BY,
    EXIT_CONFIG_INVALID,
    EXIT_DATA_INVALID,
    EXIT_PREEMPTED,
    LABEL_ATTEMPT,
)
from policy_api.rules.cost import Held, held_by_pod, times

from policy_operator.machinery.cache import Obj
from policy_operator.training.pods import (
    CONTAINER,
    PodEnd,
    condition,
    outlived,
    parse_time,
    pod_active,
    pod_end,
    pod_index,
)
from policy_operator.training.starts import Start, start
from policy_operator.training.types import AttemptView, End

_TAIL = 400  # characters of a log's end that a status message quotes


def job_finished(job: Obj) -> Obj | None:
    """Return the Job's terminal condition; it comes only when all its pods have ended."""
    return condition(job, "Complete") or condition(job, "Failed")


def job_runs(job: Obj) -> bool:
    """Whether the Job has or makes pods: it has neither finished nor been suspended."""
    return job_finished(job) is None and not job["spec"].get("suspend")


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
    if report is not None and report.message:
        message += f": {report.message}"
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


def outlasted(job: Obj, ends: Sequence[PodEnd]) -> tuple[End | None, End | None]:
    """Judge an attempt by its trainers, while other containers keep its pods alive.

    Returns:
        How it ended, once all of its trainers have; how it is about to end, once one has failed.
    """
    nodes = int(job["spec"].get("completions") or 1)
    bad = [e for e in ends if e.code != 0]
    if len(ends) >= nodes:
        at = parse_time(max(e.at for e in ends))
        return (failed(job, ends, at) if bad else completed(ends, at)), None
    if bad:
        return None, failed(job, ends, parse_time(min(e.at for e in bad)))
    return None, None


def on_hold(job: Obj, why: str) -> str:
    """Say that somebody else has suspended the Job, and why, if they say so."""
    told = f" ({why})" if why else ""
    return (
        f"Job {job['metadata']['name']} is suspended, not by this operator{told}; "
        "the training goes on when the Job is resumed"
    )


def held(job: Obj, pods: Iterable[Obj]) -> Held | None:
    """Return what all pods of a Job hold; they are made of one template, so one tells for all."""
    each = [held_by_pod(pod["spec"], CONTAINER) for pod in pods]
    if not each:
        return None
    most = max(each, key=lambda one: (one.gpus, one.cpus))
    return times(int(job["spec"].get("completions") or 1), most)


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
    failing: End | None = None
    if end is None and not suspended and any(outlived(p) for p in mine.values()):
        end, failing = outlasted(job, ends)
    begun = start(job, mine)
    if suspended and not marked:
        begun = Start(pods_active, reasons.JOB_SUSPENDED, on_hold(job, ""))
    starts = [t for p in mine.values() if (t := (p.get("status") or {}).get("startTime"))]
    return AttemptView(
        index=int(meta["labels"][LABEL_ATTEMPT]),
        job=meta["name"],
        uid=meta["uid"],
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        base_version=(meta.get("annotations") or {}).get(ANNOTATION_BASE),
        running_since=parse_time(min(starts, default=None)),
        held=held(job, mine.values()),
        running=begun.running,
        reason=begun.reason,
        message=begun.message,
        stopping=stopping,
        suspended=suspended and not marked,
        suspended_at=parse_time(suspension.get("lastTransitionTime")),
        resumed=marked and not suspended,
        job_started_at=parse_time((job.get("status") or {}).get("startTime")),
        deadline_seconds=job["spec"].get("activeDeadlineSeconds"),
        pods_active=pods_active,
        complete=complete,
        failing=failing,
        stall=begun.stall,
        silence=begun.silence,
        job_runs=job_runs(job),
        end=end,
    )
