"""Generates answers with one key-value cache, checking guesses as it goes; answers join and leave.

Rows accept different numbers of guessed tokens. Instead of moving cache entries about at each step,
an entry that one row rejected while another accepted is masked for the first: positions are given
explicitly, so a masked hole changes nothing but a little memory, until it is closed (caches.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from policy_models.text import caches
from policy_models.text.drafts import Drafts


@dataclass(eq=False)
class Row:
    """One answer, as it grows."""

    prompt: Sequence[int]
    limit: int
    """Most tokens."""
    tokens: list[int] = field(default_factory=list)
    """So far, with the stop token where the model ended by itself."""
    probability_sum: float = 0.0
    stopped: bool = False
    """The model ended by itself."""

    @property
    def done(self) -> bool:
        """Whether it is whole."""
        return self.stopped or len(self.tokens) >= self.limit

    @property
    def confidence(self) -> float:
        """Mean probability of the tokens, the stop token included."""
        return self.probability_sum / len(self.tokens)


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
        self._joinable = caches.joinable(model.config)
        self._rows: list[Row] = []
        self._cache: Any = None
        self._mask: Any = None
        self.forward_passes = 0  # since start; what guesses save is seen here

    @property
    def open(self) -> bool:
        """Whether answers may be started now."""
        return self._joinable or not self._rows

    def start(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Row]:
        """Start an answer of at most `limits[i]` tokens to each prompt; it has its first token.

        What is being decoded is left as it is when this raises.
        """
        rows = [Row(prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
        cache = DynamicCache(config=self._model.config)
        widest = max(len(row.prompt) for row in rows)
        pads = [widest - len(row.prompt) for row in rows]
        mask = self._tensor([[0] * pad + [1] * (widest - pad) for pad in pads])
        ids = self._tensor(
            [[0] * pad + list(row.prompt) for pad, row in zip(pads, rows, strict=True)]
        )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            tokens, probabilities = self._forward(cache, ids, mask, positions, 1)
            for row, token, probability in zip(rows, tokens, probabilities, strict=True):
                self._take(row, token, probability)
            if self._rows:
                self._mask = caches.join(self._cache, self._mask, cache, mask)
            else:
                self._cache, self._mask = cache, mask
            self._rows += rows
            self._settle()
        return rows

    def step(self) -> None:
        """Give every answer that is not whole one token or more."""
        if self._rows:
            with torch.inference_mode():
                self._step()
                self._settle()

    def leave(self, rows: Sequence[Row]) -> None:
        """Stop decoding these answers, if they are not whole."""
        gone = set(map(id, rows))
        with torch.inference_mode():
            self._keep([index for index, row in enumerate(self._rows) if id(row) not in gone])

    def _settle(self) -> None:
        """Let whole answers go, and learn from them."""
        for row in self._rows:
            if row.done:
                self._drafts.learn(row.prompt, row.tokens)
        self._keep([index for index, row in enumerate(self._rows) if not row.done])
        if self._rows:
            self._mask = caches.compact(self._cache, self._mask)

    def _keep(self, places: list[int]) -> None:
        if len(places) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in places]
        if self._rows:
            self._mask = caches.select(self._cache, self._mask, self._tensor(places))
        else:
            self._cache = self._mask = None

    def _step(self) -> None:
        """Feed each row its last token and a guess."""
        rows, feeds = self._rows, []
        for row in rows:
            context = [*row.prompt[-3:], *row.tokens[-3:]]
            room = row.limit - len(row.tokens) - 1
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
        whole = torch.cat([self._mask, fed], dim=1)
        tokens, probabilities = self._forward(self._cache, ids, whole, positions, width)
        kept = []
        for row, feed, said, probability in zip(rows, feeds, tokens, probabilities, strict=True):
            count = 1
            while count < len(feed) and feed[count] == said[count - 1]:
                count += 1
            self._take(row, said[:count], probability[:count])
            kept.append(count)
        longest = max(kept)
        if longest < width:
            self._cache.crop(longest - width)  # negative: that many entries off the end
        held = self._tensor([[1] * count + [0] * (longest - count) for count in kept])
        self._mask = torch.cat([self._mask, held], dim=1)

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

    def _take(self, row: Row, tokens: Sequence[int], probabilities: Sequence[float]) -> None:
        """Add tokens to an answer up to a stop token or its limit."""
        for token, probability in zip(tokens, probabilities, strict=True):
            row.tokens.append(token)
            row.probability_sum += probability
            row.stopped = token in self._stop
            if row.done:
                return

    def _tensor(self, values: Any) -> Any:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)
