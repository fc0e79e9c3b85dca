"""An answer's text as it grows: tokens become text only where a character is whole."""

from typing import Any

HALF = "\ufffd"  # what a tokenizer makes of the first bytes of a character


class Pieces:
    """Reads what tokens add to a text, without reading all of them again at each step.

    A token's text may hang on the token before it (a space, bytes of one character), so each piece
    is the difference of two readings that both begin at the last piece before.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._start = 0  # where a reading begins
        self._read = 0  # tokens that were given out

    def take(self, tokens: list[int]) -> str:
        """Return what an answer's tokens say beyond what was taken before, maybe nothing."""
        before = self._text(tokens[self._start : self._read])
        now = self._text(tokens[self._start :])
        if len(now) <= len(before) or now.endswith(HALF) or not now.startswith(before):
            return ""
        self._start, self._read = self._read, len(tokens)
        return now[len(before) :]

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
