"""What text models do on held-out data: their losses, their answers, their rewards."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from policy_api.base import Metric
from policy_api.contract.artifact import Generation
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.common import Decision
from policy_api.v1alpha1.training import AnswerSchema
from policy_models.answers import AnswerCheck
from policy_models.fields import Violation
from policy_models.text import rendering
from trl.data_utils import common_prefix_length

from policy_trainer.data import Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.process import Process, prepare
from policy_trainer.rewards import Rewards

BATCH = 64  # answers generated at once
LOSS_BATCH = 8  # rows at once, each with a number for every token of the vocabulary
SAMPLES = 2  # answers sampled for each prompt


def losses(
    model: Any, tokenizer: Any, rows: Sequence[Row], process: Process
) -> tuple[Numbers, Numbers]:
    """Return, for each row, the mean loss over the answer's tokens, and how many there are."""
    device = prepare(model, process)
    found: list[tuple[float, int]] = []
    for start in range(0, len(rows), LOSS_BATCH):
        batch = rows[start : start + LOSS_BATCH]
        ids, asked = [], []
        for row in batch:
            ids.append(rendering.answered_tokens(tokenizer, row["prompt"], row["completion"]))
            # Where the end of a prompt merges with the answer, TRL too counts it to the answer.
            before = rendering.asked_tokens(tokenizer, row["prompt"])
            asked.append(max(1, common_prefix_length(before, ids[-1])))
        width = max(map(len, ids))
        tokens = torch.tensor([x + [tokenizer.pad_token_id] * (width - len(x)) for x in ids])
        mask = torch.tensor([[1] * len(x) + [0] * (width - len(x)) for x in ids])
        with torch.inference_mode():
            logits = model(tokens.to(device), attention_mask=mask.to(device)).logits.float().cpu()
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        for row_losses, first, row_ids in zip(each, asked, ids, strict=True):
            answer = row_losses[first - 1 : len(row_ids) - 1]
            found.append((float(answer.mean()), len(answer)))
    means, counts = zip(*found, strict=True)
    return np.array(means), np.array(counts, dtype=float)


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], how: Generation, process: Process
) -> list[str]:
    """Return one answer to each prompt, greedy at temperature 0, else sampled from torch's seed."""
    return texts(tokenizer, in_batches(model, tokenizer, prompts, how, process))


def texts(tokenizer: Any, made: Iterable[tuple[torch.Tensor, int]]) -> list[str]:
    """Return the answers' texts of what `generated` returned."""
    return [
        answer
        for tokens, asked in made
        for answer in tokenizer.batch_decode(tokens[:, asked:], skip_special_tokens=True)
    ]


def in_batches(
    model: Any, tokenizer: Any, prompts: Sequence[str], how: Generation, process: Process
) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield what `generated` returns of so many prompts at once as fit."""
    for start in range(0, len(prompts), BATCH):
        yield generated(model, tokenizer, prompts[start : start + BATCH], how, process)


def generated(
    model: Any, tokenizer: Any, prompts: Sequence[str], how: Generation, process: Process
) -> tuple[torch.Tensor, int]:
    """Return the tokens of prompts (padded on the left) and answers, and how many are asked."""
    device = prepare(model, process)
    sampling: dict[str, Any] = {"do_sample": False}
    if how.temperature > 0:
        sampling = {"do_sample": True, "temperature": how.temperature, "top_k": 0, "top_p": 1.0}
    rows = [rendering.asked_tokens(tokenizer, prompt) for prompt in prompts]
    batch = rendering.padded(tokenizer, rows, "left").to(device)
    tokens: torch.Tensor = model.generate(
        **batch,
        max_new_tokens=how.max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=rendering.stop_tokens(model, tokenizer),
        **sampling,
    )
    return tokens, batch["input_ids"].shape[1]


def sampled(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    how: Generation,
    process: Process,
    *,
    seed: int,
) -> list[str]:
    """Return a few answers to each prompt, from torch's seed; in the order of `repeated`."""
    torch.manual_seed(seed)
    return answers(model, tokenizer, repeated(prompts), how, process)


def repeated(prompts: Sequence[str]) -> list[str]:
    """Return each prompt as often as it is answered."""
    return [prompt for prompt in prompts for _ in range(SAMPLES)]


def mean_rewards(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    how: Generation,
    process: Process,
    *,
    rewards: Rewards,
    seed: int,
) -> Numbers:
    """Return each prompt's mean reward over a few sampled answers.

    Sampled at the training's temperature and not greedy: that is what GRPO improves, and it is a
    smooth function of the weights. Greedy answers can all flip at once when a run only drifts.
    """
    made = sampled(model, tokenizer, prompts, how, process, seed=seed)
    totals = np.array(rewards.totals(repeated(prompts), made))
    means: Numbers = totals.reshape(-1, SAMPLES).mean(axis=1)
    return means


def served(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    how: Generation,
    process: Process,
    *,
    run: RunConfig,
    decision: Decision | None = None,
    truths: Sequence[str] = (),
) -> list[Metric]:
    """Return what the answers are worth that the server will give: see validity and decided."""
    intervals = Intervals.of(run)
    made = answers(model, tokenizer, prompts, how, process)
    metrics = [validity(run.answer_schema, made, intervals)]
    if decision is not None:
        metrics += decided(decision, truths, made, intervals)
    return metrics


def validity(schema: AnswerSchema, made: Sequence[str], intervals: Intervals) -> Metric:
    """Return `eval_answer_valid`: the share of answers that keep the policy's answer schema."""
    check = AnswerCheck(schema)
    kept = [float(not isinstance(check.read(answer), Violation)) for answer in made]
    return intervals.mean("eval_answer_valid", kept)


def decided(
    decision: Decision, truths: Sequence[str], made: Sequence[str], intervals: Intervals
) -> list[Metric]:
    """Return how well answers decide, beside the decisions of answers that are known to be right.

    `decision_accuracy`; `decision_fpr`, the share of positive decisions among those that should be
    negative; `decision_fnr`, the reverse. An answer without a decision is wrong either way.

    Raises:
        DataInvalidError: a true answer has no decision.
    """
    wanted = np.array([_decision(decision, truth, n) for n, truth in enumerate(truths, start=1)])
    found = [re.search(decision.pattern, answer) for answer in made]
    said = [None if match is None else match[1] == decision.positive for match in found]
    wrong = np.array([a is None or a != w for a, w in zip(said, wanted, strict=True)], dtype=float)
    metrics = [intervals.mean("decision_accuracy", 1 - wrong)]
    for name, rows in (("decision_fpr", ~wanted), ("decision_fnr", wanted)):
        if rows.any():
            metrics.append(intervals.share(name, float(wrong[rows].mean()), int(rows.sum())))
    return metrics


def check_decision(decision: Decision | None, field: str) -> None:
    """Refuse a pattern that finds no decision, before anything is trained.

    Raises:
        ConfigInvalidError: it is no regular expression, or has no group.
    """
    if decision is None:
        return
    try:
        groups = re.compile(decision.pattern).groups
    except re.error as error:
        message = f"{decision.pattern!r} is not a regular expression: {error}"
        raise ConfigInvalidError(message, field) from error
    if not groups:
        raise ConfigInvalidError(
            f"{decision.pattern!r} has no group: put what decides in parentheses", field
        )


def _decision(decision: Decision, truth: str, number: int) -> bool:
    match = re.search(decision.pattern, truth)
    if match is None:
        raise DataInvalidError(
            f"the answer has no decision: {decision.pattern!r} is not found in {truth[:80]!r}",
            field=f"data[validation] row {number}",
        )
    return bool(match[1] == decision.positive)
