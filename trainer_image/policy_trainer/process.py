"""This process among those that train together: its rank, its device, how it talks to the others.

The GPU's path (CUDA, NCCL, bfloat16) is chosen by `compute.gpusPerNode` alone, never by what
happens to be importable: with this project's CPU stubs `is_nccl_available()` of torch.distributed
is True. That path is written as the libraries document it; this project's own tests run the CPU's.
"""

import os
from dataclasses import dataclass
from typing import Any

from policy_api.contract.run import RunConfig

from policy_trainer.errors import RunError


@dataclass(frozen=True)
class Process:
    """Where this process stands; torchrun says so in the environment, alone it is rank 0 of 1."""

    rank: int
    local_rank: int
    world_size: int
    on_gpu: bool

    @property
    def first(self) -> bool:
        """Whether this process speaks for all: it evaluates and writes the artifact."""
        return self.rank == 0

    @property
    def device(self) -> str:
        """The device that this process trains on, by torch's name."""
        return f"cuda:{self.local_rank}" if self.on_gpu else "cpu"

    @property
    def first_of_node(self) -> bool:
        """Whether this process copies files for its pod."""
        return self.local_rank == 0


def join(run: RunConfig) -> Process:
    """Choose the device, join the process group and return where this process stands.

    Must run before a model is loaded: DeepSpeed's ZeRO-3 wants its own init first.

    Raises:
        RunError: the run wants GPUs and torch sees none.
    """
    on_gpu = run.compute.gpus_per_node > 0
    if not on_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    process = Process(
        rank=int(os.environ.get("RANK", "0")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        on_gpu=on_gpu,
    )
    if not on_gpu and "RANK" not in os.environ:
        return process  # recipes of tables then need no torch
    import torch  # noqa: PLC0415 - after DS_ACCELERATOR, which DeepSpeed reads when it is imported

    if on_gpu:
        if not torch.cuda.is_available():
            raise RunError(
                f"the pod asked for {run.compute.gpus_per_node} GPUs, torch sees none: is the "
                "node's driver older than the image's CUDA?"
            )
        torch.cuda.set_device(process.local_rank)
    if "RANK" in os.environ:
        backend = "nccl" if on_gpu else "gloo"
        if run.compute.deepspeed is not None:
            import deepspeed  # noqa: PLC0415 - 3 s that a run without it does not need

            # Compiled at first use, for two minutes, with a compiler that the image does not have;
            # torch's own collectives give the same numbers.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            deepspeed.init_distributed(dist_backend=backend, verbose=False)
        else:
            torch.distributed.init_process_group(backend)
    return process


def any_of_all(process: Process, mine: bool) -> bool:
    """Return whether any process says yes. All must call it, at the same point."""
    return highest(process, int(mine)) > 0


def highest(process: Process, mine: int) -> int:
    """Return the highest of all processes' numbers. All must call it, at the same point."""
    if process.world_size == 1:
        return mine
    import torch  # noqa: PLC0415 - see join

    number: Any = torch.tensor([mine], device="cuda" if process.on_gpu else "cpu")
    torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
    return int(number.item())


def wait_for_all(process: Process) -> None:
    """Return once every process is here."""
    highest(process, 0)


def prepare(model: Any, process: Process) -> str:
    """Move a model to this process's device, for use; return the device."""
    if not getattr(model, "is_quantized", False):  # such a one is where it is
        model.to(process.device)
    model.eval()
    return process.device
