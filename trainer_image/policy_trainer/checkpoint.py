"""Stop at the end of a step, and go on from there as if nothing had happened.

A stop is asked for by SIGTERM to any one process, or by the supervisor's stop file. At the end of
every step all processes agree (the maximum of their flags), so they all stop after the same step,
also when only one was told; without that, the others would wait for it in the next collective.

A checkpoint is complete once its marker is there, which is written last, by rank 0, after every
process has written its part; a run goes on from the newest complete one and removes torn ones.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from policy_api.run import RunConfig
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations import KubeflowCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from policy_trainer import process as processes
from policy_trainer import storage
from policy_trainer.errors import PreemptedError
from policy_trainer.process import Process
from policy_trainer.result import Fitted
from policy_trainer.state import folder as state_folder
from policy_trainer.stop import StopRequest

MARKER = "complete.json"
NAME = re.compile(r"checkpoint-(\d+)")
NEVER = 2**31 - 1  # more steps than any run has

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training, in the store or, for a bucket, with a copy here."""

    store: storage.Store
    folder: str  # in the store
    local: Path  # what transformers writes to and reads from
    process: Process
    keep: int

    @classmethod
    def open(cls, run: RunConfig, process: Process) -> Self:
        """Return the checkpoints of this run's training."""
        store = storage.open_store(run.store.path)
        folder = f"{run.policy}/checkpoints/{run.training.uid}"
        local = storage.local_folder(store, folder) or Path("/tmp/checkpoints", run.training.uid)  # noqa: S108 - the pod's own
        return cls(store, folder, local, process, run.checkpoints.keep)

    @property
    def _copied(self) -> bool:
        return storage.local_folder(self.store, self.folder) is None

    def steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, oldest first."""
        found = (NAME.fullmatch(name) for name in self.store.names(self.folder))
        steps = sorted(int(match[1]) for match in found if match)
        return [s for s in steps if self.store.read(f"{self.folder}/checkpoint-{s}/{MARKER}")]

    def newest(self) -> Path | None:
        """Return a local folder with the newest complete checkpoint; all must call it."""
        steps = self.steps()
        processes.wait_for_all(self.process)  # all have looked, now one may remove
        if self.process.first:
            for name in self.store.names(self.folder):
                match = NAME.fullmatch(name)
                if match and int(match[1]) not in steps:
                    log.warning("removing the torn checkpoint %s", name)
                    self.store.remove(f"{self.folder}/{name}")
        path = self.local / f"checkpoint-{steps[-1]}" if steps else None
        if path is not None and self._copied and self.process.first_of_node:
            self.store.download(f"{self.folder}/{path.name}", path)
        processes.wait_for_all(self.process)
        return path

    def complete(self, step: int) -> None:
        """Make the checkpoint of this step count, then forget old ones; all must call it."""
        name = f"checkpoint-{step}"
        processes.wait_for_all(self.process)  # every process has written its part
        if self._copied and self.process.first_of_node:
            self.store.upload(self.local / name, f"{self.folder}/{name}")
            shutil.rmtree(self.local / name)
        processes.wait_for_all(self.process)  # every node has copied its part
        if self.process.first:
            marker = {"step": step, "processes": self.process.world_size}
            self.store.write(f"{self.folder}/{name}/{MARKER}", json.dumps(marker).encode())
            for old in self.steps()[: -self.keep]:
                self.store.remove(f"{self.folder}/checkpoint-{old}")

    def forget(self) -> None:
        """Remove all of them: the training has its artifact."""
        if self.process.first and self.store.names(self.folder):
            self.store.remove(self.folder)


class Saver(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Saves every so many steps, and when a stop was asked for.

    Args:
        checkpoints: Where.
        stop: Whether this process was asked to stop.
        every: Optimizer steps between two checkpoints.
        unit: Checkpoints fall on multiples of this many steps. GRPO makes its samples for this many
            steps at once, and from within such a unit a run would not go on exactly.
    """

    def __init__(
        self, checkpoints: Checkpoints, stop: StopRequest, every: int, unit: int = 1
    ) -> None:
        self._checkpoints = checkpoints
        self._stop = stop
        self._every = max(1, round(every / unit)) * unit
        self._unit = unit
        self.stopped = False
        self.on_stop: Callable[[], None] | None = None

    def on_step_end(self, _args: Any, state: Any, control: Any, **_more: object) -> None:
        """Agree whether to stop; ask transformers to save when it is time."""
        if state.global_step % self._unit:
            return
        self.stopped = processes.any_of_all(self._checkpoints.process, self._stop.made)
        if self.stopped and self.on_stop is not None:
            self.on_stop()
        control.should_training_stop |= self.stopped
        control.should_save |= self.stopped or state.global_step % self._every == 0

    def on_save(self, _args: Any, state: Any, _control: Any, **_more: object) -> None:
        """Mark what transformers has just written."""
        self._checkpoints.complete(state.global_step)


class Narrator(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Logs how far the run is: what a person looks for first."""

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any, **_more: object) -> None:
        """Log one line."""
        if state.is_world_process_zero and "loss" in logs:
            shown = (f"{key} {logs[key]:.4f}" for key in ("loss", "reward") if key in logs)
            log.info("step %d/%d %s", state.global_step, state.max_steps, " ".join(shown))


def fit(trainer: Any, saver: Saver, checkpoints: Checkpoints, stop: StopRequest) -> Fitted:
    """Run a trainer from the newest complete checkpoint to its end; all must call it.

    Raises:
        PreemptedError: it was asked to stop, and has.
    """
    process = checkpoints.process
    newest = checkpoints.newest()
    resumed_from = int(newest.name.split("-")[1]) if newest else None
    if processes.any_of_all(process, stop.made):
        raise PreemptedError(resumed_from or 0, None, resumed_from)
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
    trainer.save_model(str(weights))  # all processes: ZeRO-3 gathers the weights
    processes.wait_for_all(process)
    unset_hf_deepspeed_config()  # else ZeRO-3 would spread the models that rank 0 alone evaluates
    return Fitted(weights, step, resumed_from)
