"""The bag-of-words model of which plans people like: how it reads, and how it scores. Numpy alone.

A plan's features are which words of the vocabulary it has; its score is the logistic function of
the bias and their weights. The model is JSON that a person can read, its words sorted by weight.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

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

    def score(self, plan: str) -> float:
        """Return the probability that people like a plan."""
        total = self.bias + sum(self.weights.get(word, 0.0) for word in words(plan))
        return float(1 / (1 + np.exp(-total)))

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
