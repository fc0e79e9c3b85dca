"""The frame of a training loop that is our own: steps, progress, stop, checkpoints, early stop.

    loop = Loop(run, process, stop, block.max_steps)
    if (folder := loop.resume()) is not None:
        state = load_state(folder, process)
        …
    for _ in loop.steps():
        … one step …
        loop.end_step({"loss": loss}, lambda folder: save_state(folder, process, {…}))
    fitted = loop.fitted()

As with transformers' trainers (fit.py), all processes agree at the end of every step
whether to stop, and a checkpoint counts once its marker is there.
"""

import json
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_api.contract.run import RunConfig

from policy_trainer import process as processes
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.early import EarlyStop
from policy_trainer.errors import PreemptedError
from policy_trainer.process import Process
from policy_trainer.progress import Reporter
from policy_trainer.result import Fitted
from policy_trainer.stop import StopRequest

HISTORY = "history.json"
LINES = 20  # in a pod's log, for a whole run

State = dict[str, Any]  # tensors, numbers, texts, lists and dicts of them

log = logging.getLogger(__name__)


class Loop:
    """Counts the steps of a run, from its newest checkpoint on.

    Args:
        run: Says how often to save, and when to stop early.
        process: This one.
        stop: Whether it was asked to stop.
        max_steps: Steps of the whole run.
        report_every: Steps between two reports of metrics.
    """

    def __init__(
        self,
        run: RunConfig,
        process: Process,
        stop: StopRequest,
        max_steps: int,
        report_every: int = 1,
    ) -> None:
        self.step = 0
        self.max_steps = max_steps
        self.history: list[dict[str, float]] = []
        self._every = run.checkpoints.every_steps
        self._report_every = report_every
        self._process, self._stop = process, stop
        self._checkpoints = Checkpoints.open(run, process)
        self._early = EarlyStop(run.stop_early)
        self._reporter = Reporter(max_steps) if process.first else None
        self._resumed_from: int | None = None
        self._over = False

    def resume(self) -> Path | None:
        """Return the folder of the newest checkpoint, from which the run goes on; all must call it.

        Raises:
            PreemptedError: the run was asked to stop before it began.
        """
        newest = self._checkpoints.newest()
        if newest is not None:
            self.step = self._resumed_from = int(newest.name.split("-")[1])
            self.history = json.loads((newest / HISTORY).read_text())
            for row in self.history:
                self._early.see(row)
        if processes.any_of_all(self._process, self._stop.made):
            raise PreemptedError(self.step, None, self._resumed_from)
        return newest

    def steps(self) -> Iterator[int]:
        """Yield the number of each step that is left, from 1; the body must call `end_step`."""
        while self.step < self.max_steps and not self._over and self._early.reason is None:
            yield self.step + 1

    def reports(self, step: int) -> bool:
        """Say whether this step's metrics will be reported."""
        return step % self._report_every == 0 or step == self.max_steps

    def end_step(self, metrics: Mapping[str, float], write: Callable[[Path], None]) -> None:
        """Count a step; save, report and stop when it is time; all must call it.

        Args:
            metrics: Of this step; every rank passes the same.
            write: Writes this process's part of a checkpoint into a folder.

        Raises:
            PreemptedError: the run was asked to stop, and its checkpoint is complete.
        """
        self.step += 1
        last = self.step == self.max_steps
        if self.reports(self.step):
            self._report(metrics)
        wish = 2 if self._stop.made else int(self._early.reason is not None)
        agreed = processes.highest(self._process, wish)
        self._over = agreed > 0
        if self.step % self._every == 0 or (agreed and not last):
            self._save(write)
        if agreed == 2 and not last:  # noqa: PLR2004 - see wish
            raise PreemptedError(self.step, self.max_steps, self._resumed_from)

    def fitted(self) -> Fitted:
        """Return what there is to say of a run that has ended."""
        return Fitted(self.step, self._resumed_from, self.history, self._early.reason)

    def _report(self, metrics: Mapping[str, float]) -> None:
        self.history.append({"step": self.step, **metrics})
        self._early.see(metrics)
        if self._reporter is None:
            return
        self._reporter.report(self.step, metrics)
        every = max(1, self.max_steps // (self._report_every * LINES)) * self._report_every
        if self.step % every == 0 or self.step == self.max_steps:
            shown = (f"{name} {value:.4g}" for name, value in metrics.items())
            log.info("step %d/%d %s", self.step, self.max_steps, " ".join(shown))

    def _save(self, write: Callable[[Path], None]) -> None:
        folder = self._checkpoints.local / f"checkpoint-{self.step}"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        if self._process.first:
            (folder / HISTORY).write_text(json.dumps(self.history))
        self._checkpoints.complete(self.step)


def save_state(folder: Path, process: Process, state: State) -> None:
    """Write this process's state into a checkpoint, with the state of all random generators.

    A recipe that does without torch gives numbers, texts and lists: they are kept as JSON.
    """
    import numpy as np  # noqa: PLC0415 - as torch

    generators: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True)[1].tolist(),  # noqa: NPY002 - libraries use it
        "numpy_position": int(np.random.get_state(legacy=True)[2]),  # noqa: NPY002
    }
    if "torch" not in sys.modules:
        text = json.dumps({"state": state, "generators": generators})
        _plain_file(folder, process).write_text(text)
        return
    import torch  # noqa: PLC0415 - seconds of imports

    generators["torch"] = torch.get_rng_state()
    if process.on_gpu:
        generators["cuda"] = torch.cuda.get_rng_state()
    torch.save({"state": state, "generators": generators}, folder / f"state-{process.rank}.pt")


def load_state(folder: Path, process: Process) -> State:
    """Return what `save_state` wrote, and set the random generators back."""
    import numpy as np  # noqa: PLC0415 - see save_state

    plain, file = _plain_file(folder, process), folder / f"state-{process.rank}.pt"
    saved: dict[str, Any]
    if plain.exists():
        saved = json.loads(plain.read_text())
    else:
        import torch  # noqa: PLC0415

        saved = torch.load(file, weights_only=True, map_location="cpu")
    generators = saved["generators"]
    version, internal, gauss = generators["python"]
    random.setstate((version, tuple(internal), gauss))
    key = np.array(generators["numpy"], dtype=np.uint32)
    np.random.set_state(("MT19937", key, generators["numpy_position"]))  # noqa: NPY002
    if "torch" in generators:
        torch.set_rng_state(generators["torch"])
    if process.on_gpu:
        torch.cuda.set_rng_state(generators["cuda"])
    state: State = saved["state"]
    return state


def _plain_file(folder: Path, process: Process) -> Path:
    return folder / f"state-{process.rank}.json"
