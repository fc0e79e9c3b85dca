"""Scores of answers to a prompt: by a reward model, or by how likely a text policy says them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from policy_models.decision import (
    TOO_LONG,
    Decision,
    Option,
    Question,
    Refusal,
    Request,
    greedy,
    wants,
)
from policy_models.text import rendering
from policy_models.text.loading import NO_CHATS, context, load

BATCH = 32  # answers scored at once

Numbers = Any  # numpy.ndarray
Pair = tuple[rendering.Prompt, str]  # a prompt and an answer


def scores(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> Numbers:
    """Return one score an answer; only differences of scores of the same prompt mean something.

    Args:
        model: A transformers model with one output, in eval mode.
        tokenizer: Its tokenizer.
        pairs: What is scored.
    """
    found: list[float] = []
    for start in range(0, len(pairs), BATCH):
        rows = [
            rendering.answered_tokens(tokenizer, prompt, answer)
            for prompt, answer in pairs[start : start + BATCH]
        ]
        batch = rendering.padded(tokenizer, rows, "right").to(model.device)
        with torch.inference_mode():
            found += model(**batch).logits.squeeze(-1).float().cpu().tolist()
    return np.array(found)


def likelihoods(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> Numbers:
    """Return the mean log-probability of each answer's tokens, its end included, in nats.

    Args:
        model: A transformers causal model in eval mode.
        tokenizer: Its tokenizer.
        pairs: What is scored.
    """
    found: list[float] = []
    for prompt, answer in pairs:
        tokens = rendering.answered_tokens(tokenizer, prompt, answer)
        start = min(len(rendering.asked_tokens(tokenizer, prompt)), len(tokens) - 1)
        ids = torch.tensor([tokens], device=model.device)
        keep = len(tokens) - start + 1  # the logits after the token before each of the answer's
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=keep).logits[0, -keep:-1].float()
        logs = logits.log_softmax(-1).gather(-1, ids[0, -len(logits) :, None])
        found.append(float(logs.mean()))
    return np.array(found)


def pairs_of(
    tokenizer: Any, most: int | None, question: Question, candidates: Sequence[str]
) -> list[Pair] | Refusal:
    """Return what is to be scored, each answer once, or why it cannot be.

    Args:
        tokenizer: The model's.
        most: Tokens that the model takes; None: any number.
        question: What is asked.
        candidates: Answers to it.
    """
    if question.prompt is not None:
        prompt: rendering.Prompt = question.prompt
    elif tokenizer.chat_template:
        prompt = [{"role": turn.role, "content": turn.content} for turn in question.turns]
    else:
        return NO_CHATS
    pairs = [(prompt, answer) for answer in dict.fromkeys(candidates)]
    for number, (_, answer) in enumerate(pairs):
        length = len(rendering.answered_tokens(tokenizer, prompt, answer))
        if most is not None and length > most:
            return Refusal(
                TOO_LONG,
                f"the prompt and candidates[{number}] have {length} tokens, this policy takes at "
                f"most {most}: shorten them",
            )
    return pairs


def ranked(pairs: Sequence[Pair], values: Numbers, confidence: Numbers) -> Decision:
    """Return the answers in the order of their values, the highest first."""
    return Decision(
        greedy(
            Option(answer, float(value), confidence=float(sure))
            for (_, answer), value, sure in zip(pairs, values, confidence, strict=True)
        )
    )


class RewardScorer:
    """Ranks answers to a prompt by a reward model."""

    slow = True

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._context = context(model.config)

    @classmethod
    def load(cls, folder: Path, *, threads: int) -> "RewardScorer":
        """Load the model in `folder`, whose files were checked before. Takes seconds."""
        return cls(*load(AutoModelForSequenceClassification, folder, threads))

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank each request's answers, the highest score first."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        if request.question is None or not request.candidates:
            return wants("prompt or messages, and candidates, a list of answers")
        found = pairs_of(self._tokenizer, self._context, request.question, request.candidates)
        if isinstance(found, Refusal):
            return found
        values = scores(self._model, self._tokenizer, found)
        raised = np.exp(values - values.max())
        # That it is the best of these, by the model (Bradley and Terry 1952, Luce 1959).
        return ranked(found, values, raised / raised.sum())

    def example(self) -> Request:
        """Return a prompt and an answer."""
        return Request(question=Question(prompt="Hello"), candidates=("Hello",))

    def inputs(self) -> dict[str, Any]:
        """Return what it is asked with."""
        return {"prompt": "a text", "candidates": "answers"}
