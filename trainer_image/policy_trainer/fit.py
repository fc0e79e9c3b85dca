"""Run a trainer of transformers or TRL to its end, or to the end of the step at which it must stop.

A stop is asked for by SIGTERM to any one process, or by the supervisor's stop file. At the end of
every step all processes agree (the maximum of their flags), so they all stop after the same step,
also when only one was told; without that, the others would wait for it in the next collective.
"""

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from policy_api.contract.run import RunConfig
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations import KubeflowCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from policy_trainer import process as processes
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.early import EarlyStop
from policy_trainer.errors import PreemptedError
from policy_trainer.figures import History
from policy_trainer.progress import Reporter
from policy_trainer.result import Fitted
from policy_trainer.state import folder as state_folder
from policy_trainer.stop import StopRequest

NEVER = 2**31 - 1  # more steps than any run has
GO_ON, EARLY, STOP = range(3)  # what a process wants at the end of a step

log = logging.getLogger(__name__)


class Saver(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Saves every so many steps, and when a stop was asked for.

    Args:
        run: Says how often, and when to stop early.
        checkpoints: Where.
        stop: Whether this process was asked to stop.
        unit: Checkpoints fall on multiples of this many steps. GRPO makes its samples for this many
            steps at once, and from within such a unit a run would not go on exactly.
    """

    def __init__(
        self, run: RunConfig, checkpoints: Checkpoints, stop: StopRequest, unit: int = 1
    ) -> None:
        self._checkpoints = checkpoints
        self._stop = stop
        self._every = max(1, round(run.checkpoints.every_steps / unit)) * unit
        self._unit = unit
        self.early = EarlyStop(run.stop_early)
        self.stopped = False
        self.on_stop: Callable[[], None] | None = None

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_more: object) -> None:
        """Count what was reported before the checkpoint."""
        for row in state.log_history:
            self.early.see(row)

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any, **_more: object) -> None:
        """Take a report."""
        self.early.see(_numbers(logs))

    def on_step_end(self, _args: Any, state: Any, control: Any, **_more: object) -> None:
        """Agree whether to stop; ask transformers to save when it is time."""
        if state.global_step % self._unit:
            return
        wish = STOP if self._stop.made else EARLY if self.early.reason else GO_ON
        agreed = processes.highest(self._checkpoints.process, wish)
        self.stopped = agreed == STOP
        if self.stopped and self.on_stop is not None:
            self.on_stop()
        control.should_training_stop |= agreed != GO_ON
        control.should_save |= agreed != GO_ON or state.global_step % self._every == 0

    def on_save(self, _args: Any, state: Any, _control: Any, **_more: object) -> None:
        """Mark what transformers has just written."""
        self._checkpoints.complete(state.global_step)


class Posts(KubeflowCallback):  # type: ignore[misc]  # transformers has no types
    """Posts progress as transformers does, and trusts what is in the CA file at that time.

    transformers reads the file once; the operator's CA may change while a run lasts.
    """

    def _get_ssl_context(self) -> Any:
        self._ssl_context_initialized = False
        return super()._get_ssl_context()


class Narrator(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Says how far the run is: what a person looks for first."""

    def __init__(self) -> None:
        self._reporter: Reporter | None = None

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any, **_more: object) -> None:
        """Log one line, and write the file for whoever runs this by hand."""
        if not state.is_world_process_zero or "loss" not in logs:
            return
        shown = (f"{key} {logs[key]:.4f}" for key in ("loss", "reward") if key in logs)
        log.info("step %d/%d %s", state.global_step, state.max_steps, " ".join(shown))
        if self._reporter is None:  # transformers posts by itself
            self._reporter = Reporter(state.max_steps, post=False)
        self._reporter.report(state.global_step, _numbers(logs))


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}


def _history(state: Any) -> History:
    """Return what transformers logged, whose numbers are finite."""
    rows = ({**_numbers(row), "step": row["step"]} for row in state.log_history)
    return [{k: v for k, v in row.items() if math.isfinite(v)} for row in rows]


def fit(
    trainer: Any, saver: Saver, checkpoints: Checkpoints, stop: StopRequest
) -> tuple[Path, Fitted]:
    """Run a trainer from the newest complete checkpoint to its end; all must call it.

    Returns:
        The folder with what was trained (all weights, or the adapter's), and how it went.

    Raises:
        PreemptedError: it was asked to stop, and has.
    """
    process = checkpoints.process
    newest = checkpoints.newest()
    resumed_from = int(newest.name.split("-")[1]) if newest else None
    if processes.any_of_all(process, stop.made):
        raise PreemptedError(resumed_from or 0, None, resumed_from)
    if trainer.pop_callback(KubeflowCallback) is not None:
        trainer.add_callback(Posts())
    # At the end of training, also of one that is stopped, it would report 100 %.
    saver.on_stop = partial(trainer.remove_callback, KubeflowCallback)
    trainer.add_callback(saver)
    trainer.remove_callback(PrinterCallback)  # prints forty numbers a line
    trainer.add_callback(Narrator())
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    step, max_steps = trainer.state.global_step, trainer.state.max_steps
    if saver.stopped and step < max_steps:
        raise PreemptedError(step, max_steps, resumed_from)
    weights = state_folder() / "weights"
    if process.first_of_node:  # an adapter that an earlier run left would be taken for this one's
        shutil.rmtree(weights, ignore_errors=True)
    processes.wait_for_all(process)
    trainer.save_model(str(weights))  # all processes: ZeRO-3 gathers the weights
    processes.wait_for_all(process)
    unset_hf_deepspeed_config()  # else ZeRO-3 would spread the models that rank 0 alone evaluates
    return weights, Fitted(step, resumed_from, _history(trainer.state), saver.early.reason)
