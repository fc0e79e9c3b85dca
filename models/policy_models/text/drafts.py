"""Guesses how an answer goes on from how earlier answers went on.

A trained policy repeats itself: headings, punctuation, whole sentences. The model still decides
every token: it checks a guess of n tokens in one forward pass, which for a small model costs about
as much as one token, and keeps the guess as far as it agrees (prompt lookup decoding, Saxena 2023;
the acceptance rule of Leviathan et al. 2023 for greedy decoding). So answers do not depend on what
is remembered here, but for rounding.
"""

from collections import OrderedDict
from collections.abc import Sequence


class Drafts:
    """Remembers what followed each recent run of `ORDERS` tokens.

    Args:
        length: Tokens of one guess; 0 turns guessing off.
        capacity: Runs that are remembered; the least recently written is forgotten first.
    """

    ORDERS = (3, 2)  # the longer run is the better witness; the shorter one bridges a new number

    def __init__(self, length: int, capacity: int = 8192) -> None:
        self._length = length
        self._capacity = capacity
        self._after: OrderedDict[tuple[int, ...], tuple[int, ...]] = OrderedDict()

    def guess(self, context: Sequence[int], limit: int) -> tuple[int, ...]:
        """Return at most `limit` tokens that may follow `context`, or none."""
        if self._length == 0 or limit <= 0:
            return ()
        for order in self.ORDERS:
            found = self._after.get(tuple(context[-order:]))
            if found is not None:
                return found[:limit]
        return ()

    def learn(self, context: Sequence[int], answer: Sequence[int]) -> None:
        """Remember an answer and how it began after the end of `context`."""
        if self._length == 0:
            return
        longest = max(self.ORDERS)
        head = list(context[-longest:])
        tokens = head + list(answer)
        for start in range(len(head), len(tokens)):
            follows = tuple(tokens[start : start + self._length])
            for order in self.ORDERS:
                if start >= order:
                    run = tuple(tokens[start - order : start])
                    self._after[run] = follows
                    self._after.move_to_end(run)
        while len(self._after) > self._capacity:
            self._after.popitem(last=False)
