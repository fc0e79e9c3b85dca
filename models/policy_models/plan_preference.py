"""The bag-of-words model of which plans people like: how it reads, and how it scores. Numpy alone.

A plan's features are which words of the vocabulary it has; its score is the logistic function of
the bias and their weights. The model is JSON that a person can read, its words sorted by weight.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from policy_models import reasons
from policy_models.decision import Decision, Option, Reason, Refusal, Request, greedy, wants

FILE = "preference_model.json"
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

Numbers = Any  # numpy.ndarray


def words(text: str) -> set[str]:
    """Return the words that a text has, in lower case."""
    return set(WORD.findall(text.lower()))


@dataclass(frozen=True)
class PreferenceModel:
    """A bias and a weight a word."""

    weights: dict[str, float]
    bias: float
    slow = False

    def score(self, plan: str) -> float:
        """Return the probability that people like a plan."""
        # Sorted: a set's order, and with it the last bit of a sum, changes from process to process.
        total = self.bias + sum(self.weights.get(word, 0.0) for word in sorted(words(plan)))
        return float(1 / (1 + np.exp(-total)))

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank plans by how likely people like them."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        if not request.candidates or request.state is not None:
            return wants("candidates, a list of plans")
        ranking = greedy(
            Option(
                plan,
                likely := self.score(plan),
                confidence=likely,
                reasons=self._reasons(plan) if request.explain else (),
            )
            for plan in dict.fromkeys(request.candidates)
        )
        return Decision(ranking)

    def _reasons(self, plan: str) -> tuple[Reason, ...]:
        found = sorted(word for word in words(plan) if word in self.weights)
        order = sorted(found, key=lambda word: -abs(self.weights[word]))[: reasons.SHOWN]
        return tuple(
            Reason(
                f"it says {word!r}: {self.weights[word]:+.3g} of log-odds",
                "plan",
                word,
                self.weights[word],
            )
            for word in order
        )

    def example(self) -> Request:
        """Return a plan of no words."""
        return Request(candidates=("",))

    def inputs(self) -> dict[str, Any]:
        """Return what it is asked with."""
        return {"candidates": "plans"}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read an artifact's."""
        return cls.decode((folder / FILE).read_text())

    def encode(self) -> str:
        """Return the JSON file."""
        ordered = sorted(self.weights.items(), key=lambda item: (-item[1], item[0]))
        shown = [{"word": word, "weight": weight} for word, weight in ordered]
        return json.dumps({"bias": self.bias, "vocabulary": shown}, indent=1) + "\n"

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read the JSON file."""
        read = json.loads(text)
        weights = {entry["word"]: float(entry["weight"]) for entry in read["vocabulary"]}
        return cls(weights, float(read["bias"]))
