"""What takes optimizer steps for a loop of our own: plain torch, data parallel, or DeepSpeed."""

import random
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from policy_api.contract.run import RunConfig
from torch import nn

from policy_trainer import arguments
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.loop import load_state, save_state
from policy_trainer.process import Process

MAX_NORM = 1.0  # of the gradient
TAG = "engine"  # DeepSpeed's folder in a checkpoint


class Engine(Protocol):
    """A model that learns."""

    def __call__(self, **inputs: Any) -> Any:
        """Run the model forward, so that it can learn from the result."""
        ...

    def learn(self, loss: torch.Tensor) -> None:
        """Take one optimizer step; all processes must call it."""
        ...

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the steps that follow."""
        ...

    def save(self, folder: Path, more: dict[str, Any]) -> None:
        """Write this process's part of a checkpoint."""
        ...

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from what `save` wrote; return what else was saved."""
        ...


def build(run: RunConfig, process: Process, model: nn.Module, rate: float, batch: int) -> Engine:
    """Return what trains a model's trainable weights.

    Args:
        run: Asks for DeepSpeed or not.
        process: One of how many.
        model: On its device.
        rate: Learning rate of AdamW.
        batch: Samples that a process takes in a step.

    Raises:
        ConfigInvalidError: ZeRO-3, under which a process has not the weights that it samples with.
    """
    learned = [weights for weights in model.parameters() if weights.requires_grad]
    if run.compute.deepspeed is None:
        return PlainEngine(process, model, learned, rate)
    stage = run.compute.deepspeed.stage
    if stage == 3:  # noqa: PLR2004 - ZeRO-3
        raise ConfigInvalidError(
            "this recipe samples with the model that it trains, which ZeRO-3 spreads over the "
            "processes: set compute.deepspeed.stage to 2 or less",
            field="compute.deepspeed.stage",
        )
    return DeepSpeedEngine(process, model, learned, rate, config(stage, batch, process))


def config(stage: int, batch: int, process: Process) -> dict[str, Any]:
    """Return DeepSpeed's config with its numbers filled in."""
    return {
        **arguments.deepspeed_config(stage),
        "bf16": {"enabled": False},  # weights stay float32; autocast computes in bfloat16
        "gradient_clipping": MAX_NORM,
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": 1,
        "train_batch_size": batch * process.world_size,
    }


def autocast(process: Process) -> AbstractContextManager[Any]:
    """Return the context in which a model runs: bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if process.on_gpu else nullcontext()


class PlainEngine:
    """AdamW, with gradients averaged over the processes when there are several."""

    def __init__(
        self, process: Process, model: nn.Module, learned: list[nn.Parameter], rate: float
    ) -> None:
        self._process = process
        self._inner = model
        self._model = (
            nn.parallel.DistributedDataParallel(
                model, device_ids=[process.local_rank] if process.on_gpu else None
            )
            if process.world_size > 1
            else model
        )
        self._learned = learned
        self._optimizer = torch.optim.AdamW(learned, lr=rate)

    def __call__(self, **inputs: Any) -> Any:
        """See Engine."""
        return self._model(**inputs)

    def learn(self, loss: torch.Tensor) -> None:
        """See Engine."""
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._learned, MAX_NORM)
        self._optimizer.step()

    def set_rate(self, rate: float) -> None:
        """See Engine."""
        _set_rate(self._optimizer, rate)

    def save(self, folder: Path, more: dict[str, Any]) -> None:
        """See Engine."""
        weights = {n: w for n, w in self._inner.named_parameters() if w.requires_grad}
        state = {"weights": weights, "optimizer": self._optimizer.state_dict(), "more": more}
        save_state(folder, self._process, state)

    def load(self, folder: Path) -> dict[str, Any]:
        """See Engine."""
        state = load_state(folder, self._process)
        self._inner.load_state_dict(state["weights"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        more: dict[str, Any] = state["more"]
        return more


class DeepSpeedEngine:
    """DeepSpeed's engine with torch's AdamW."""

    def __init__(
        self,
        process: Process,
        model: nn.Module,
        learned: list[nn.Parameter],
        rate: float,
        settings: dict[str, Any],
    ) -> None:
        import deepspeed  # noqa: PLC0415 - seconds that a run without it does not need

        self._process = process
        optimizer = torch.optim.AdamW(learned, lr=rate)
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)

    def __call__(self, **inputs: Any) -> Any:
        """See Engine."""
        return self._engine(**inputs)

    def learn(self, loss: torch.Tensor) -> None:
        """See Engine."""
        self._engine.backward(loss)
        self._engine.step()

    def set_rate(self, rate: float) -> None:
        """See Engine."""
        _set_rate(self._engine.optimizer, rate)

    def save(self, folder: Path, more: dict[str, Any]) -> None:
        """See Engine."""
        self._engine.save_checkpoint(str(folder), tag=TAG)
        save_state(folder, self._process, more)

    def load(self, folder: Path) -> dict[str, Any]:
        """See Engine."""
        self._engine.load_checkpoint(str(folder), tag=TAG)
        return load_state(folder, self._process)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def seed_all(*parts: int) -> None:
    """Seed everything that is random in this process, from numbers that name the occasion."""
    import numpy as np  # noqa: PLC0415 - as elsewhere

    number = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(number)
    torch.manual_seed(number)


def mean_over_processes(process: Process, numbers: Iterable[float]) -> list[float]:
    """Return the means of numbers over all processes; all must call it."""
    made = torch.tensor(list(numbers), dtype=torch.float64)
    if process.world_size > 1:
        if process.on_gpu:
            made = made.cuda()
        torch.distributed.all_reduce(made)
        made /= process.world_size
    found: list[float] = made.tolist()
    return found
