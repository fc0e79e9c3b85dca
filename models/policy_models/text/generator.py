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
    Written,
)
from policy_models.text import questions, rendering, scorer
from policy_models.text.decoding import Decoder, Row
from policy_models.text.loading import context, load
from policy_models.text.pieces import Pieces
from policy_models.writing import Answer

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
        begun = self.begin(requests)
        answers = [one for one in begun if isinstance(one, _Answer)]
        try:
            while not all(one.row.done for one in answers):
                self.write()
        finally:
            self.leave(answers)  # those that are whole have left: it is for what raised
        return [_whole(one) for one in begun]

    @property
    def open(self) -> bool:
        """Whether answers may begin now: always, but for models whose cache takes no others in."""
        return self._decoder.open

    def begin(self, requests: Sequence[Request]) -> list[Answer | Decision | Refusal]:
        """Begin an answer to each question, or rank its candidates; see Writer."""
        encoded = [
            self._score(request) if request.candidates is not None else self._encode(request)
            for request in requests
        ]
        prompts = [item for item in encoded if isinstance(item, list)]
        limits = [
            self._max_new_tokens
            if self._context is None
            else min(self._max_new_tokens, self._context - len(prompt))
            for prompt in prompts
        ]
        rows = iter(self._decoder.start(prompts, limits) if prompts else [])
        return [
            _Answer(next(rows), self._tokenizer, greedy=self._greedy)
            if isinstance(item, list)
            else item
            for item in encoded
        ]

    def write(self) -> None:
        """Write a token or more of every answer that is not whole."""
        self._decoder.step()

    def leave(self, answers: Sequence[Answer]) -> None:
        """Write no more of these."""
        self._decoder.leave([one.row for one in answers if isinstance(one, _Answer)])

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


class _Answer:
    """One answer of a TextPolicy as it is written; see Answer."""

    def __init__(self, row: Row, tokenizer: Any, *, greedy: bool) -> None:
        self.row = row
        self._tokenizer = tokenizer
        self._greedy = greedy
        self._pieces = Pieces(tokenizer)

    @property
    def decision(self) -> Decision | None:
        if not self.row.done:
            return None
        text = self._tokenizer.decode(self.row.tokens, skip_special_tokens=True)
        # A mean of probabilities may leave [0, 1] by a rounding.
        confidence = min(1.0, max(0.0, self.row.confidence))
        option = Option(
            text,
            score=confidence,
            # A greedy policy takes the one answer that it would always take.
            probability=1.0 if self._greedy else None,
            confidence=confidence,
            tokens=len(self.row.tokens),
        )
        written = Written(prompt_tokens=len(self.row.prompt), stopped=self.row.stopped)
        return Decision((option,), written=written)

    def take(self) -> str:
        return self._pieces.take(self.row.tokens)


def _whole(begun: Answer | Decision | Refusal) -> Decision | Refusal:
    if isinstance(begun, Decision | Refusal):
        return begun
    found = begun.decision
    assert found is not None  # it was written until it was
    return found
