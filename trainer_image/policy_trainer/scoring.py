"""What a reward model says of answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from policy_trainer import text
from policy_trainer.intervals import Numbers
from policy_trainer.process import Process, prepare

BATCH = 32  # answers scored at once


def scores(
    model: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], process: Process
) -> Numbers:
    """Return one score an answer; only differences of scores of the same prompt mean something.

    Args:
        model: A transformers model with one output.
        tokenizer: Its tokenizer.
        prompts: One an answer.
        answers: What is scored.
        process: Says on which device.
    """
    device = prepare(model, process)
    found: list[float] = []
    for start in range(0, len(answers), BATCH):
        chosen = slice(start, start + BATCH)
        pairs = zip(prompts[chosen], answers[chosen], strict=True)
        batch = tokenizer(
            [text.answered(tokenizer, {"prompt": p, "completion": a}) for p, a in pairs],
            return_tensors="pt",
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_token_type_ids=False,
        ).to(device)
        with torch.inference_mode():
            found += model(**batch).logits.squeeze(-1).float().cpu().tolist()
    return np.array(found)
