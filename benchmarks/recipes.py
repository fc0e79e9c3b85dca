"""Seconds per step of each recipe that stands on TRL, beside TRL's plain script; prints a table.

    python benchmarks/recipes.py [--steps 60] [--rounds 3]

Both train the same tiny model on the same rows with the same settings, in one process, in turns.
The recipe also agrees at the end of every step whether to stop, reports its progress and keeps a
checkpoint at the end, which is what the ratio shows. Needs the trainer's environment.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
for folder in ("api", "models", "trainer_image", "tests"):
    sys.path.insert(0, str(REPO / folder))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TQDM_DISABLE"] = "1"

from policy_api.contract.run import RunConfig  # noqa: E402
from policy_trainer import base_model, process, run  # noqa: E402
from policy_trainer.stop import StopRequest  # noqa: E402
from trainer.worlds import config  # noqa: E402

BLOCK = {"learningRate": 0.001, "batchSize": 8, "maxLength": 64}
GRPO = {
    "numGenerations": 4,
    "maxCompletionLength": 16,
    "rewards": [{"name": "score", "weight": 1, "contains": ["Score:"]}],
}


def write_rows(file: Path, count: int = 512) -> None:
    """Write rows that every recipe takes."""
    with file.open("w") as rows:
        for n in range(count):
            row = {
                "prompt": f"Rate {n % 32}",
                "completion": f"Score: {n % 4}",
                "chosen": f"Score: {n % 4}",
                "rejected": f"no {n % 7}",
            }
            rows.write(json.dumps(row) + "\n")


def setting(root: Path, recipe: str, uid: str, steps: int) -> RunConfig:
    """Return the config of a run without validation data: it trains and does nothing else."""
    name = {"SFT": "sft", "DPO": "dpo", "RewardModel": "rewardModel", "GRPO": "grpo"}[recipe]
    block = {**BLOCK, "maxSteps": steps, **(GRPO if recipe == "GRPO" else {})}
    data = [{"name": "train", "uri": "file:///train.jsonl", "path": str(root / "train.jsonl")}]
    never = {"everySteps": 1_000_000, "keep": 1}
    fields = {"recipe": recipe, "sft": None, name: block, "data": data, "checkpoints": never}
    return config(root, uid, **fields)


def ours(root: Path, recipe: str, uid: str, steps: int) -> float:
    """Train by the recipe; return the seconds of its steps."""
    wanted = setting(root, recipe, uid, steps)
    trained = run.train(wanted, process.join(wanted), StopRequest())
    return float(trained.fitted.history[-1]["train_runtime"])


def plain(root: Path, recipe: str, uid: str, steps: int) -> float:
    """Train by TRL's plain script; return the seconds of its steps."""
    import trl  # noqa: PLC0415 - seconds
    from datasets import Dataset  # noqa: PLC0415

    wanted = setting(root, recipe, uid, steps)
    rows = [json.loads(line) for line in (root / "train.jsonl").read_text().splitlines()]
    said = [r[field] for r in rows for field in ("prompt", "chosen", "rejected")]
    scores = recipe == "RewardModel"
    model, tokenizer = base_model.load(wanted, process.join(wanted), said, scores=scores)
    common = {
        "output_dir": str(root / uid),
        "seed": wanted.seed,
        "max_steps": steps,
        "learning_rate": BLOCK["learningRate"],
        "per_device_train_batch_size": BLOCK["batchSize"],
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "logging_steps": 5,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    special: dict[str, Any] = {"max_length": BLOCK["maxLength"]}
    rest: dict[str, Any] = {}
    if recipe == "GRPO":
        special = {"num_generations": 4, "max_completion_length": 16}

        def score(completions: list[Any], **_: Any) -> list[float]:
            return [float("Score:" in str(c[-1]["content"])) for c in completions]

        rest = {"reward_funcs": [score]}
    if recipe == "DPO":  # TRL would load it by the name that a new model has not
        rest = {"ref_model": base_model.load(wanted, process.join(wanted), said)[0]}
    names = {"SFT": "SFT", "DPO": "DPO", "RewardModel": "Reward", "GRPO": "GRPO"}
    columns = {
        "SFT": ("prompt", "completion"),
        "DPO": ("prompt", "chosen", "rejected"),
        "RewardModel": ("prompt", "chosen", "rejected"),
        "GRPO": ("prompt",),
    }[recipe]

    def chat(row: dict[str, str]) -> dict[str, Any]:
        role = {"prompt": "user"}
        return {c: [{"role": role.get(c, "assistant"), "content": row[c]}] for c in columns}

    trainer = getattr(trl, f"{names[recipe]}Trainer")(
        model=model,
        args=getattr(trl, f"{names[recipe]}Config")(**common, **special),
        train_dataset=Dataset.from_list([chat(row) for row in rows]),
        processing_class=tokenizer,
        **rest,
    )
    return float(trainer.train().metrics["train_runtime"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure recipes beside TRL's plain scripts.")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipes", default="SFT,DPO,RewardModel,GRPO")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print("| recipe | ours, s/step | TRL's script, s/step | speed of ours (aim ≥ 0.98) |")
    print("|---|---|---|---|")
    for recipe in options.recipes.split(","):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            os.environ["POLICYOPS_STATE_DIR"] = str(root / "state")
            write_rows(root / "train.jsonl")
            both: tuple[tuple[str, Callable[..., float]], ...] = (("plain", plain), ("ours", ours))
            times: dict[str, list[float]] = {"plain": [], "ours": []}
            for number in range(options.rounds + 1):
                for kind, train in both:
                    with contextlib.redirect_stdout(io.StringIO()):
                        seconds = train(root, recipe, f"{kind}-{number}", options.steps)
                    if number:  # the first round warms caches up
                        times[kind].append(seconds / options.steps)
        mine, base = (statistics.median(times[kind]) for kind in ("ours", "plain"))
        print(f"| {recipe} | {mine:.4f} | {base:.4f} | {base / mine:.3f} |", flush=True)


if __name__ == "__main__":
    main()
