"""PID 1 of a trainer pod: start the workers, pass a stop on, and say how it ended.

    python -m policy_trainer.supervisor

One worker is started as it is, several (or any under DeepSpeed) through torchrun, which finds the
other pods by the PET_* variables. The end becomes an exit code, on which the Job's pod failure
policy acts, and a report in the termination message, which outlives network and operator.

SIGTERM is passed on by a file that the workers look for at the end of every step. Not by signal:
torchrun would kill them 30 s later, and one that is still importing would never know.
"""

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_api.contract import environment
from policy_api.contract.report import EXIT_CODES, Outcome, TrainingReport
from policy_api.contract.run import RunConfig

from policy_trainer import state
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.run import read_config

WORKER = "policy_trainer.run"

# Where a container finds how many of its processes the kernel has killed for memory.
OOM_FILES = (
    Path("/sys/fs/cgroup/memory.events"),  # version 2
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
)
# …and how much processor time it may use: quota and period, in microseconds.
QUOTA_FILES = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)

# Of several workers' outcomes the first of these is the pod's: a cause before what it causes in the
# others, whose collectives fail.
GRAVITY = (
    Outcome.CONFIG_INVALID,
    Outcome.DATA_INVALID,
    Outcome.OUT_OF_MEMORY,
    Outcome.TRAINER_FAILED,
    Outcome.PREEMPTED,
    Outcome.COMPLETED,
)


@dataclass(frozen=True)
class Ended:
    """How the child ended, as waitpid tells it."""

    code: int | None  # exit code, or None when a signal ended it
    signal: int | None


def command(run: RunConfig) -> list[str]:
    """Return the command that starts this pod's workers."""
    if processes(run) * run.compute.nodes == 1 and run.compute.deepspeed is None:
        return [sys.executable, "-m", WORKER]
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    if "PET_NNODES" not in os.environ:  # not in a pod of ours: this machine alone
        launcher += ["--standalone", f"--nproc-per-node={processes(run)}"]
    return [*launcher, "-m", WORKER]


def processes(run: RunConfig) -> int:
    """Return how many processes each pod runs: as ordered, or one a GPU, or one."""
    return run.compute.processes_per_node or max(1, run.compute.gpus_per_node)


def threads(run: RunConfig) -> int:
    """Return how many threads each process computes with, so that they do not fight for cores.

    With as many threads as the machine has cores in each of two processes, a run that took 7 s took
    99 s.
    """
    return max(1, int(cores(QUOTA_FILES)) // processes(run))


def cores(files: Iterable[Sequence[Path]]) -> float:
    """Return how many cores this container may use: its limit, or all that the machine has."""
    allowed = float(len(os.sched_getaffinity(0)))
    for group in files:
        if all(file.is_file() for file in group):
            quota, period = " ".join(file.read_text() for file in group).split()[:2]
            if quota not in {"max", "-1"}:
                return min(allowed, float(quota) / float(period))
    return allowed


def oom_kills(files: Iterable[Path]) -> int | None:
    """Return how many processes the kernel has killed for memory; None when it does not say."""
    for file in files:
        if file.is_file():
            for line in file.read_text().splitlines():
                match line.split():
                    case ["oom_kill", count]:
                        return int(count)
                    case _:
                        pass
    return None


def judge(
    outcomes: Sequence[TrainingReport],
    ended: Ended,
    *,
    stopping: bool,
    kills: int | None,
) -> TrainingReport:
    """Decide how the pod ended.

    Args:
        outcomes: What its workers said, by rank.
        ended: How the child ended.
        stopping: Whether this pod was told to stop.
        kills: Processes that the kernel killed for memory in this run; None: it does not say.
    """
    if ended.code == 0 and all(said.outcome is Outcome.COMPLETED for said in outcomes) and outcomes:
        return outcomes[0]
    if kills or (ended.signal == signal.SIGKILL and kills is None):
        return TrainingReport(
            outcome=Outcome.OUT_OF_MEMORY,
            message="the kernel killed a process of the trainer for memory: raise "
            "compute.resources.limits.memory, or lower batchSize or maxLength",
        )
    if outcomes:
        worst = min(outcomes, key=lambda report: GRAVITY.index(report.outcome))
        if worst.outcome is not Outcome.COMPLETED:
            return worst
    if stopping:
        return TrainingReport(
            outcome=Outcome.PREEMPTED, message="stopped on request before the first step"
        )
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    return TrainingReport(
        outcome=Outcome.TRAINER_FAILED,
        message=f"the trainer ended with {how} and did not say why; see the pod's log",
    )


def supervise(run: RunConfig) -> TrainingReport:
    """Run the workers to their end, reaping every process that is left to PID 1."""
    folder = state.folder()
    folder.mkdir(parents=True, exist_ok=True)
    for old in [state.stop_file(), *folder.glob("outcome-*.json")]:
        old.unlink(missing_ok=True)

    def stop(_number: int, _frame: object) -> None:
        state.stop_file().touch()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads(run)))
    kills_before = oom_kills(OOM_FILES)
    started = command(run)
    print("starting", *started, f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}", flush=True)  # noqa: T201 - the pod's log
    child = os.posix_spawn(started[0], started, os.environ)
    ended = reap_until(child)
    kills_now = oom_kills(OOM_FILES)
    kills = None if kills_now is None else kills_now - (kills_before or 0)
    return judge(state.read_outcomes(), ended, stopping=state.stop_file().exists(), kills=kills)


def reap_until(child: int) -> Ended:
    """Wait for the child's end; orphans that are handed to PID 1 are reaped on the way."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid != child:
            continue
        if os.WIFSIGNALED(status):
            return Ended(code=None, signal=os.WTERMSIG(status))
        return Ended(code=os.waitstatus_to_exitcode(status), signal=None)


def main() -> int:
    """Supervise, write the termination message and return the exit code."""
    try:
        report = supervise(read_config())
    except ConfigInvalidError as error:
        report = TrainingReport(outcome=error.outcome, message=error.message, field=error.field)
    text = report.encode()
    Path(os.environ.get("POLICYOPS_TERMINATION_LOG", environment.TERMINATION_LOG)).write_text(text)
    print(text, flush=True)  # noqa: T201 - the pod's log
    return EXIT_CODES[report.outcome]


if __name__ == "__main__":
    sys.exit(main())
