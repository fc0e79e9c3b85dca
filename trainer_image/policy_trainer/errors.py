"""How a run can end other than well: each error knows the outcome that the operator acts on."""

import sys

from policy_api.contract.report import EXIT_CODES, Outcome


class RunError(Exception):
    """A run that cannot go on, with a sentence for the user.

    Args:
        message: What is wrong and what to change.
        field: The spec field or data row at fault, if there is one.
    """

    outcome = Outcome.TRAINER_FAILED

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class DataInvalidError(RunError):
    """The data cannot be trained on; trying again would not help."""

    outcome = Outcome.DATA_INVALID


class ConfigInvalidError(RunError):
    """The config cannot be run; trying again would not help."""

    outcome = Outcome.CONFIG_INVALID


class PreemptedError(RunError):
    """The run was told to stop and did so; its checkpoint, if it had made a step, is complete."""

    outcome = Outcome.PREEMPTED

    def __init__(self, step: int, max_steps: int | None, resumed_from_step: int | None) -> None:
        kept = f"checkpoint of step {step} saved" if step else "nothing was trained yet"
        super().__init__(f"stopped on request, {kept}")
        self.step = step
        self.max_steps = max_steps
        self.resumed_from_step = resumed_from_step


def tell(error: RunError) -> int:
    """Say to a command's user, on standard error, what is wrong; return the exit code for it."""
    sys.stderr.write(f"{error}\n")
    return EXIT_CODES[error.outcome]
