"""Scores of answers to a question: by a reward model, or by how likely a text policy says them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from policy_api.contract.artifact import PolicyManifest
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
from policy_models.text import questions, rendering
from policy_models.text.loading import context, load

BATCH = 32  # answers scored at once
WANTED = "prompt, messages or state, and candidates, a list of answers"

Numbers = Any  # numpy.ndarray
Pair = tuple[rendering.Prompt, str]  # a row's prompt and answer


@dataclass(frozen=True)
class Said:
    """An answer to a question, as the model reads it."""

    answer: str
    tokens: list[int]
    """Of question and answer, the end included."""
    start: int
    """Place of the answer's first token, at least 1."""


def said(tokenizer: Any, asked: rendering.Asked, answers: Sequence[str]) -> list[Said]:
    """Return answers to one question as the model reads them.

    Raises:
        jinja2.TemplateError: The chat template refuses the conversation.
    """
    before = rendering.tokens_before(tokenizer, asked)
    found = []
    for answer in answers:
        tokens = rendering.tokens_with(tokenizer, asked, answer)
        # Where the end of a question merges with the answer, it counts to the answer, as in TRL.
        start = min(rendering.in_common(before, tokens), len(tokens) - 1)
        found.append(Said(answer, tokens, max(1, start)))
    return found


def scores(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> Numbers:
    """Return one score an answer of rows; see scores_of."""
    rows = [rendering.answered_tokens(tokenizer, prompt, answer) for prompt, answer in pairs]
    return scores_of(model, tokenizer, rows)


def scores_of(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]]) -> Numbers:
    """Return one score an answer; only differences of scores of the same prompt mean something.

    Args:
        model: A transformers model with one output, in eval mode.
        tokenizer: Its tokenizer.
        rows: Tokens of question and answer.
    """
    found: list[float] = []
    for start in range(0, len(rows), BATCH):
        batch = rendering.padded(tokenizer, rows[start : start + BATCH], "right").to(model.device)
        with torch.inference_mode():
            found += model(**batch).logits.squeeze(-1).float().cpu().tolist()
    return np.array(found)


def likelihoods(model: Any, answers: Sequence[Said]) -> Numbers:
    """Return the mean log-probability of each answer's tokens, its end included, in nats.

    Args:
        model: A transformers causal model in eval mode.
        answers: What is scored.
    """
    found: list[float] = []
    for one in answers:
        ids = torch.tensor([one.tokens], device=model.device)
        keep = len(one.tokens) - one.start + 1  # the logits from the token before the answer's on
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=keep).logits[0, -keep:-1].float()
        logs = logits.log_softmax(-1).gather(-1, ids[0, -len(logits) :, None])
        found.append(float(logs.mean()))
    return np.array(found)


def candidates_of(
    tokenizer: Any, template: str | None, most: int | None, request: Request, wanted: str
) -> list[Said] | Refusal:
    """Return what is to be scored, each answer once, or why it cannot be.

    Args:
        tokenizer: The model's.
        template: The manifest's prompt template.
        most: Tokens that the model takes; None: any number.
        request: The question and the candidates.
        wanted: What to send instead of a request that lacks one.
    """
    if not request.candidates:
        return wants(wanted)
    asked = questions.rendered(tokenizer, template, request, wanted)
    if isinstance(asked, Refusal):
        return asked
    try:
        found = said(tokenizer, asked, list(dict.fromkeys(request.candidates)))
    except jinja2.TemplateError as error:
        return questions.refused(error)
    for one in found:
        if most is not None and len(one.tokens) > most:
            place = request.candidates.index(one.answer)
            return Refusal(
                TOO_LONG,
                f"the prompt and candidates[{place}] have {len(one.tokens)} tokens, this policy "
                f"takes at most {most}: shorten them",
            )
    return found


def ranked(answers: Sequence[Said], values: Numbers, confidence: Numbers) -> Decision:
    """Return the answers in the order of their values, the highest first."""
    return Decision(
        greedy(
            Option(one.answer, float(value), confidence=float(sure))
            for one, value, sure in zip(answers, values, confidence, strict=True)
        )
    )


class RewardScorer:
    """Ranks answers to a prompt by a reward model."""

    slow = True

    def __init__(self, model: Any, tokenizer: Any, template: str | None) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, template
        self._context = context(model.config)

    @classmethod
    def load(cls, folder: Path, manifest: PolicyManifest, *, threads: int) -> "RewardScorer":
        """Load the model in `folder`, whose files were checked before. Takes seconds."""
        model, tokenizer = load(AutoModelForSequenceClassification, folder, threads)
        return cls(model, tokenizer, manifest.generation.prompt_template)

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank each request's answers, the highest score first."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        found = candidates_of(self._tokenizer, self._template, self._context, request, WANTED)
        if isinstance(found, Refusal):
            return found
        values = scores_of(self._model, self._tokenizer, [one.tokens for one in found])
        raised = np.exp(values - values.max())
        # That it is the best of these, by the model (Bradley and Terry 1952, Luce 1959).
        return ranked(found, values, raised / raised.sum())

    def example(self) -> Request:
        """Return a prompt and an answer."""
        return Request(question=Question(prompt="Hello"), candidates=("Hello",))

    def inputs(self) -> dict[str, Any]:
        """Return what it is asked with."""
        return {**questions.inputs(self._tokenizer), "candidates": "answers"}
