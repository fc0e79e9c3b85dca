"""What a reward model says of answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from policy_models.text import rendering

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
        rows = [rendering.answered_tokens(tokenizer, prompt, answer) for prompt, answer in pairs]
        batch = rendering.padded(tokenizer, rows, "right").to(device)
        with torch.inference_mode():
            found += model(**batch).logits.squeeze(-1).float().cpu().tolist()
    return np.array(found)
