"""Several runs in the same two ranks, so that the libraries are imported once.

    torchrun --nproc-per-node 2 -m trainer.ranks FOLDER JUDGE_URL

Each is a whole run, as `policy_trainer.run` does it. Rank 0 writes what became of them to
FOLDER/reports.json; the test reads it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from policy_api.contract.report import TrainingReport
from policy_trainer import process as processes
from policy_trainer.errors import PreemptedError
from policy_trainer.run import execute
from policy_trainer.stop import StopRequest
from trainer.worlds import config, grpo, ppo, preference, preferences, reference

COMPUTE = {"processesPerNode": 2, "deepspeed": {"stage": 2}}


class SignalledAt(StopRequest):
    """Sends this process a real SIGTERM when it is looked at for the n-th time."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self._left = look

    @property
    def made(self) -> bool:
        """Whether somebody asked."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().made


def main(folder: Path, judge_url: str) -> None:
    """Run them all."""
    rank = int(os.environ["RANK"])
    process = processes.join(config(folder, "first", compute=COMPUTE))
    reports: dict[str, object] = {}

    def run(name: str, uid: str, signalled: int | None = None, **changes: object) -> TrainingReport:
        """Do one run; only rank 1 is told to stop, at its look of this number."""
        request = StopRequest.install()
        if signalled is not None and rank == 1:
            request = SignalledAt(signalled)
            signal.signal(signal.SIGTERM, request._on_signal)
        wanted = config(folder, uid, **{"compute": COMPUTE, **changes})
        try:
            report = execute(wanted, process, request, time.monotonic())
        except PreemptedError as error:
            report = TrainingReport(
                outcome=error.outcome,
                step=error.step,
                max_steps=error.max_steps,
                resumed_from_step=error.resumed_from_step,
            )
        processes.wait_for_all(process)
        reports[name] = report.to_wire()
        return report

    run("sft-whole", "sft-whole")
    run("sft-stopped", "sft-parts", signalled=4)
    run("sft-resumed", "sft-parts")
    base = folder / "policies" / "review-forge" / "1"
    run("grpo-whole", "grpo-whole", **grpo(base))
    run("grpo-stopped", "grpo-parts", signalled=3, **grpo(base))
    run("grpo-resumed", "grpo-parts", **grpo(base))
    block = ppo(base)
    run("ppo-whole", "ppo-whole", **block)
    run("ppo-stopped", "ppo-parts", signalled=3, **block)
    run("ppo-resumed", "ppo-parts", **block)
    run("ppo-plain", "ppo-plain", **block, compute={"processesPerNode": 2})
    judged = grpo(base, rewards=[{"name": "safe", "weight": 1, "judge": "safety"}])
    criteria = [{"name": "safety", "description": "It can be undone."}]
    judge = {"endpoint": {"url": judge_url, "model": "rule"}, "criteria": criteria}
    run("grpo-judged", "grpo-judged", **judged, judge=judge)
    data = preferences(folder)
    run("dpo-whole", "dpo-whole", **preference("DPO"), data=data)
    run("reward-whole", "reward-whole", **preference("RewardModel"), data=data)
    made = [path.parent for path in base.parent.glob("*/policy.json")]
    newest = max(made, key=lambda version: int(version.name))  # the reward model
    zero3 = {**COMPUTE, "deepspeed": {"stage": 3}}
    run("sft-zero3", "sft-zero3", compute=zero3)
    rewarded = grpo(base, rewards=[{"name": "liked", "weight": 1, "model": "reward"}])
    references = [{"name": "reward", "artifact": reference(newest, int(newest.name))}]
    run("grpo-zero3", "grpo-zero3", **rewarded, references=references, compute=zero3)
    if rank == 0:
        (folder / "reports.json").write_text(json.dumps(reports))
    processes.wait_for_all(process)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
