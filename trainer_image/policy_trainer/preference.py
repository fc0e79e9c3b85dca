"""The bag-of-words model of which plans people like: how it reads, and how it scores. Numpy alone.

A plan's features are which words of the vocabulary it has; its score is the logistic function of
the bias and their weights. The model is JSON that a person can read, its words sorted by weight.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

FILE = "preference_model.json"
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

Numbers = Any  # numpy.ndarray


def words(text: str) -> set[str]:
    """Return the words that a text has, in lower case."""
    return set(WORD.findall(text.lower()))


def vocabulary(bags: Sequence[set[str]], most: int) -> list[str]:
    """Return the words that are in most texts, the most frequent first, ties by alphabet."""
    counts = Counter(word for bag in bags for word in bag)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def matrix(bags: Sequence[set[str]], index: dict[str, int]) -> Any:
    """Return which text (row) has which word (column), as scipy's CSR matrix of ones."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415 - only training needs it

    columns = [sorted(index[w] for w in bag if w in index) for bag in bags]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.fromiter((c for row in columns for c in row), dtype=np.int32, count=int(ends[-1]))
    return csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(bags), len(index)))


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
