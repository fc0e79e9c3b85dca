"""Texts as the words that they have, to learn from."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


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
