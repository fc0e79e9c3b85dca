"""What the tests of the trainer share: small data, and run configs as the operator writes them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.run import RunConfig
from policy_trainer.stop import StopRequest

SCHEMA = {"patterns": ["Score: [0-9]+"], "maxLength": 320}
SCRATCH = {"hiddenSize": 32, "layers": 1, "heads": 2, "vocabSize": 300, "maxLength": 256}


class StopAt(StopRequest):
    """Asks to stop at its n-th look: one before training, then one at the end of every step."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self._left = look

    @property
    def made(self) -> bool:
        """Whether it is time."""
        self._left -= 1
        return self._left <= 0


def write_rows(file: Path, count: int = 48) -> Path:
    """Write rows that a tiny model learns within seconds; every third answer has a reason."""
    rows = (
        {
            "prompt": f"Rate {n % 8}",
            "completion": f"Score: {n % 4}" + (" because of it" if n % 3 == 0 else ""),
        }
        for n in range(count)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def config(root: Path, uid: str, **changes: Any) -> RunConfig:
    """Return the config of a run of recipe SFT in a folder; `changes` replace whole fields."""
    train = root / "train.jsonl"
    if not train.exists():
        write_rows(train)
        write_rows(root / "validation.jsonl", 12)
    data = [
        {"name": n, "uri": f"pvc://artifacts/{n}.jsonl", "path": str(root / f"{n}.jsonl")}
        for n in ("train", "validation")
    ]
    return RunConfig.model_validate(
        {
            "training": {"namespace": "ml", "name": uid, "uid": uid},
            "attempt": 0,
            "policy": "review-forge",
            "minVersion": 1,
            "tag": "test",
            "seed": 7,
            "recipe": "SFT",
            "sft": {"maxSteps": 6, "learningRate": 0.01, "batchSize": 4, "maxLength": 64},
            "base": {"scratch": SCRATCH},
            "data": data,
            "answerSchema": SCHEMA,
            "checkpoints": {"everySteps": 2, "keep": 2},
            "store": {"uri": "pvc://artifacts/policies", "path": str(root / "policies")},
            **changes,
        }
    )


def reference(folder: Path, version: int = 1, policy: str = "review-forge") -> dict[str, Any]:
    """Return an artifact as a run config names it."""
    return {
        "uri": f"pvc://artifacts/policies/{policy}/{version}",
        "path": str(folder),
        "sha256": sha256(folder / "policy.json"),
        "policy": policy,
        "version": version,
    }


def manifest(**changes: Any) -> PolicyManifest:
    """Return a version's manifest; `changes` replace whole fields."""
    made = {
        "policy": "plans",
        "version": 3,
        "recipe": "CQL",
        "seed": 1,
        "createdAt": "2026-01-02T03:04:05Z",
        "training": {"namespace": "ml", "name": "t", "uid": "u"},
        "config": {"a": "<script>"},
        "configSha256": "0" * 64,
        "data": [{"name": "train", "uri": "file://x", "sha256": "0" * 64, "rows": 12345}],
        "metrics": [{"name": "auc", "value": 0.87654321, "low": 0.8, "high": 0.9}],
        "exitCriteria": [
            {"metric": "auc", "met": True, "observed": 0.8765, "wanted": ">= 0.8"},
            {"metric": "x", "met": False, "wanted": ">= 1", "message": "no metric 'x'"},
        ],
        "packages": {"torch": "2"},
        "kind": "QNetwork",
        "files": [],
    }
    return PolicyManifest.model_validate({**made, **changes})


def grpo(base: Path, **changes: Any) -> dict[str, Any]:
    """Return what makes a run one of recipe GRPO on a low-rank adapter, from an artifact."""
    block = {
        "maxSteps": 4,
        "learningRate": 0.01,
        "batchSize": 4,
        "numGenerations": 4,
        "maxCompletionLength": 24,
        "maxLength": 64,
        "rewards": [
            {"name": "score", "weight": 1, "contains": ["Score:"]},
            {"name": "length", "weight": 0.5, "length": {"target": 40}},
        ],
    }
    return {
        "recipe": "GRPO",
        "sft": None,
        "grpo": {**block, **changes},
        "adapter": {"rank": 4, "alpha": 8},
        "base": {"artifact": reference(base)},
    }


def ppo(base: Path, **changes: Any) -> dict[str, Any]:
    """Return what makes a run one of recipe PPO, from an artifact."""
    block = {
        "iterations": 4,
        "batchSize": 8,
        "miniBatchSize": 4,
        "epochs": 2,
        "learningRate": 0.003,
        "maxCompletionLength": 24,
        "maxLength": 64,
        "rewards": [
            {"name": "reasons", "weight": 1, "contains": ["because of it"]},
            {"name": "short", "weight": 0.2, "length": {"under": 60}},
            {"name": "harmless", "weight": 0.1, "forbidden": ["3"]},
        ],
    }
    fields = {"recipe": "PPO", "grpo": None, "ppo": {**block, **changes}, "adapter": None}
    return {**grpo(base), **fields}


def write_pairs(file: Path, count: int) -> None:
    """Write pairs whose better answer gives a reason; in every fourth it is the shorter one."""
    with file.open("w") as lines:
        for n in range(count):
            better = f"Score: {n % 4} because of it"
            worse = f"Score: {n % 3}" + (" and that is all that I say" if n % 4 == 0 else "")
            row = {"prompt": f"Rate {n % 8}", "chosen": better, "rejected": worse}
            lines.write(json.dumps(row) + "\n")


def preferences(root: Path) -> list[dict[str, str]]:
    """Return the data inputs of a run that learns from pairs; each is made once."""
    made = []
    for name, count in (("train", 64), ("validation", 24)):
        file = root / f"{name}-pairs.jsonl"
        if not file.exists():
            write_pairs(file, count)
        made.append({"name": name, "uri": f"pvc://artifacts/{file.name}", "path": str(file)})
    return made


def preference(recipe: str, **changes: Any) -> dict[str, Any]:
    """Return what makes a run one of recipe DPO or RewardModel."""
    block = {"maxSteps": 6, "learningRate": 0.003, "batchSize": 8, "maxLength": 80, **changes}
    name = {"DPO": "dpo", "RewardModel": "rewardModel"}[recipe]
    return {"recipe": recipe, "sft": None, name: block}


def sha256(file: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
