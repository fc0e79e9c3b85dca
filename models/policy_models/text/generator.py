"""Text policies: a transformers causal model on CPU or GPU, answering."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.contract.artifact import Generation, PolicyManifest
from transformers import AutoModelForCausalLM

from policy_models.decision import (
    TOO_LONG,
    Decision,
    Option,
    Question,
    Refusal,
    Request,
)
from policy_models.text import questions, rendering, scorer
from policy_models.text.decoding import Decoder
from policy_models.text.loading import context, load

ASKED = "prompt, messages or state"
SCORED = f"{ASKED}, alone or with candidates, a list of answers"


class TextPolicy:
    """Answers prompts and conversations with one model."""

    slow = True

    def __init__(
        self, model: Any, tokenizer: Any, generation: Generation, *, draft_tokens: int
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._template = generation.prompt_template
        self._max_new_tokens = generation.max_new_tokens
        self._context = context(model.config)
        self._greedy = generation.temperature == 0
        self._decoder = Decoder(
            model,
            stop=frozenset(rendering.stop_tokens(model, tokenizer)),
            temperature=generation.temperature,
            draft_tokens=draft_tokens,
        )

    @classmethod
    def load(
        cls, folder: Path, manifest: PolicyManifest, *, threads: int, draft_tokens: int
    ) -> "TextPolicy":
        """Load the model in `folder`, whose files were checked before. Takes seconds."""
        model, tokenizer = load(AutoModelForCausalLM, folder, threads)
        return cls(model, tokenizer, manifest.generation, draft_tokens=draft_tokens)

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Return one answer to each question, or its candidates in the order of their likelihood.

        The answers of a call are generated together.
        """
        encoded = [
            self._score(request) if request.candidates is not None else self._encode(request)
            for request in requests
        ]
        prompts = [item for item in encoded if isinstance(item, list)]
        answers = iter(self._generate(prompts) if prompts else [])
        return [next(answers) if isinstance(item, list) else item for item in encoded]

    def _score(self, request: Request) -> Decision | Refusal:
        found = scorer.candidates_of(
            self._tokenizer, self._template, self._context, request, SCORED
        )
        if isinstance(found, Refusal):
            return found
        values = scorer.likelihoods(self._model, found)
        return scorer.ranked(found, values, np.exp(values))

    def example(self) -> Request:
        """Return a prompt."""
        return Request(question=Question(prompt="Hello"))

    def inputs(self) -> dict[str, Any]:
        """Return what it is asked with."""
        return questions.inputs(self._tokenizer)

    def _generate(self, prompts: Sequence[Sequence[int]]) -> list[Decision]:
        limits = [
            self._max_new_tokens
            if self._context is None
            else min(self._max_new_tokens, self._context - len(prompt))
            for prompt in prompts
        ]
        decoded = self._decoder.decode(prompts, limits)
        texts = self._tokenizer.batch_decode(
            [list(item.tokens) for item in decoded], skip_special_tokens=True
        )
        # A mean of probabilities may leave [0, 1] by a rounding.
        sure = [min(1.0, max(0.0, item.confidence)) for item in decoded]
        return [
            Decision(
                (
                    Option(
                        text,
                        score=confidence,
                        # A greedy policy takes the one answer that it would always take.
                        probability=1.0 if self._greedy else None,
                        confidence=confidence,
                        tokens=len(item.tokens),
                    ),
                )
            )
            for text, item, confidence in zip(texts, decoded, sure, strict=True)
        ]

    def _encode(self, request: Request) -> list[int] | Refusal:
        asked = questions.rendered(self._tokenizer, self._template, request, ASKED)
        if isinstance(asked, Refusal):
            return asked
        tokens = rendering.tokens_before(self._tokenizer, asked)
        if not tokens:
            return Refusal("EmptyPrompt", "the prompt has no tokens: write something")
        if self._context is not None:
            # A long answer leaves at least half of the context to the prompt.
            room = self._context - min(self._max_new_tokens, self._context // 2)
            if len(tokens) > room:
                return Refusal(
                    TOO_LONG,
                    f"the prompt has {len(tokens)} tokens, this policy takes at most {room}: "
                    "shorten it",
                )
        return tokens
