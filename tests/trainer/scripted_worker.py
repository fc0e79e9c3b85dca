"""A worker that ends as it is told: it stands where `policy_trainer.run` stands, a real process."""

import os
import signal
import subprocess
import sys
import time

from policy_api.contract.report import EXIT_CODES, Outcome, TrainingReport
from policy_trainer import state
from policy_trainer.stop import StopRequest


def end(outcome: Outcome, **fields: object) -> None:
    """Say an outcome and exit with its code."""
    state.write_outcome(0, TrainingReport.model_validate({"outcome": outcome, **fields}))
    sys.exit(EXIT_CODES[outcome])


def orphan() -> None:
    """Leave an orphan behind; end well only once PID 1 has reaped it."""
    shell = ["sh", "-c", "sleep 0.2 >/dev/null & echo $!"]
    pid = int(subprocess.run(shell, stdout=subprocess.PIPE, check=True).stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            end(Outcome.COMPLETED, step=3)
        time.sleep(0.02)


def main() -> None:
    """Act."""
    stop = StopRequest.install()
    print("worker started", flush=True)
    action = os.environ["SCRIPT"]
    match action:
        case "crash":
            sys.exit(1)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "orphan":
            orphan()
        case "wait" | "wait-silently":
            while not stop.made:
                time.sleep(0.02)
            if action == "wait":
                end(Outcome.PREEMPTED, step=4, max_steps=9, message="stopped")
            sys.exit(1)
        case "lie":  # says all is well and then dies
            state.write_outcome(0, TrainingReport(outcome=Outcome.COMPLETED))
            sys.exit(3)
        case _:
            end(Outcome(action), message="a sentence", field="data[train] row 3")


if __name__ == "__main__":
    main()
