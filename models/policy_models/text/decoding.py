"""Generates several answers at once with a key-value cache, checking guesses as it goes.

Rows of a batch accept different numbers of guessed tokens. Instead of moving cache entries about,
an entry that one row rejected while another accepted is masked for the first for good: positions
are given explicitly, so a masked hole changes nothing but a little memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from policy_models.text.drafts import Drafts


@dataclass
class _Row:
    prompt: Sequence[int]
    tokens: list[int] = field(default_factory=list)
    probability_sum: float = 0.0
    done: bool = False


@dataclass(frozen=True)
class Decoded:
    """The tokens of one answer, with the stop token where the model ended by itself."""

    tokens: tuple[int, ...]
    confidence: float  # mean probability of the tokens, the stop token included


class Decoder:
    """Decodes with `model`, a transformers causal model in eval mode.

    Args:
        model: The model.
        stop: Tokens that end an answer.
        temperature: 0 takes the most probable token; above 0 samples, without guesses.
        draft_tokens: Longest guess; see `drafts`.
    """

    def __init__(
        self, model: Any, *, stop: frozenset[int], temperature: float, draft_tokens: int
    ) -> None:
        self._model = model
        self._stop = stop
        self._temperature = temperature
        cache = DynamicCache(config=model.config)
        # A window that slides over cache entries, or a recurrent state, can't take a guess back.
        full = not any(cache.is_sliding) and not any(cache.is_linear)
        self._drafts = Drafts(draft_tokens if full and temperature == 0 else 0)
        self.forward_passes = 0  # since start; what guesses save is seen here

    def decode(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Decoded]:
        """Return an answer of at most `limits[i]` tokens to each prompt."""
        rows = [_Row(prompt) for prompt in prompts]
        with torch.inference_mode():
            self._run(rows, dict(zip(map(id, rows), limits, strict=True)))
        for row in rows:
            self._drafts.learn(row.prompt, row.tokens)
        return [Decoded(tuple(row.tokens), row.probability_sum / len(row.tokens)) for row in rows]

    def _run(self, rows: list[_Row], limits: dict[int, int]) -> None:
        cache = DynamicCache(config=self._model.config)
        widest = max(len(row.prompt) for row in rows)
        pads = [widest - len(row.prompt) for row in rows]
        mask = self._tensor([[0] * pad + [1] * (widest - pad) for pad in pads])
        ids = self._tensor(
            [[0] * pad + list(row.prompt) for pad, row in zip(pads, rows, strict=True)]
        )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        tokens, probabilities = self._forward(cache, ids, mask, positions, 1)
        for row, token, probability in zip(rows, tokens, probabilities, strict=True):
            self._take(row, token, probability, limits[id(row)])
        while True:
            live = [index for index, row in enumerate(rows) if not row.done]
            if not live:
                return
            if len(live) < len(rows):
                rows = [rows[index] for index in live]
                chosen = self._tensor(live)
                cache.batch_select_indices(chosen)
                mask = mask[chosen]
            mask = self._step(cache, rows, limits, mask)

    def _step(self, cache: Any, rows: Sequence[_Row], limits: dict[int, int], mask: Any) -> Any:
        """Feed each row its last token and a guess; return the mask of what the cache now holds."""
        feeds = []
        for row in rows:
            context = [*row.prompt[-3:], *row.tokens[-3:]]
            room = limits[id(row)] - len(row.tokens) - 1
            feeds.append([row.tokens[-1], *self._drafts.guess(context, room)])
        width = max(map(len, feeds))
        ids = self._tensor([feed + [0] * (width - len(feed)) for feed in feeds])
        fed = self._tensor([[1] * len(feed) + [0] * (width - len(feed)) for feed in feeds])
        positions = self._tensor(
            [
                [
                    len(row.prompt) + len(row.tokens) - 1 + min(i, len(feed) - 1)
                    for i in range(width)
                ]
                for row, feed in zip(rows, feeds, strict=True)
            ]
        )
        whole = torch.cat([mask, fed], dim=1)
        tokens, probabilities = self._forward(cache, ids, whole, positions, width)
        kept = []
        for row, feed, said, probability in zip(rows, feeds, tokens, probabilities, strict=True):
            count = 1
            while count < len(feed) and feed[count] == said[count - 1]:
                count += 1
            self._take(row, said[:count], probability[:count], limits[id(row)])
            kept.append(count)
        longest = max(kept)
        if longest < width:
            cache.crop(longest - width)  # negative: that many entries off the end
        held = self._tensor([[1] * count + [0] * (longest - count) for count in kept])
        return torch.cat([mask, held], dim=1)

    def _forward(
        self, cache: Any, ids: Any, mask: Any, positions: Any, keep: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return the chosen token after each of the last `keep` inputs, and its probability."""
        self.forward_passes += 1
        logits = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits.float()
        distribution = logits.softmax(-1)
        if self._temperature == 0:
            probabilities, tokens = distribution.max(-1)
        else:
            scaled = (logits[:, -1] / self._temperature).softmax(-1)
            tokens = torch.multinomial(scaled, 1)
            probabilities = distribution[:, -1].gather(-1, tokens)
        return tokens.tolist(), probabilities.tolist()

    def _take(
        self, row: _Row, tokens: Sequence[int], probabilities: Sequence[float], limit: int
    ) -> None:
        """Add tokens to the answer up to a stop token or the limit."""
        for token, probability in zip(tokens, probabilities, strict=True):
            row.tokens.append(token)
            row.probability_sum += probability
            if token in self._stop or len(row.tokens) >= limit:
                row.done = True
                return

    def _tensor(self, values: Any) -> Any:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)
