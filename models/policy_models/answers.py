"""What a valid answer of a text policy looks like."""

import re

from policy_api.v1alpha1.training import AnswerSchema


class AnswerCheck:
    """The policy's declared answer schema, compiled once."""

    def __init__(self, schema: AnswerSchema) -> None:
        self._patterns = [re.compile(pattern) for pattern in schema.patterns]
        self._forbidden = [re.compile(pattern) for pattern in schema.forbidden or ()]
        self._min = schema.min_length
        self._max = schema.max_length

    def safety_violation(self, answer: str) -> str | None:
        """Return which pattern forbids the answer, without quoting it, or None."""
        for pattern in self._forbidden:
            if pattern.search(answer):
                return f"the answer has what the pattern {pattern.pattern!r} forbids"
        return None

    def violation(self, answer: str) -> str | None:
        """Return what is wrong with the answer, without quoting it, or None."""
        if (unsafe := self.safety_violation(answer)) is not None:
            return unsafe
        if len(answer) < self._min:
            return f"the answer has {len(answer)} characters, at least {self._min} are declared"
        if self._max is not None and len(answer) > self._max:
            return f"the answer has {len(answer)} characters, at most {self._max} are declared"
        for pattern in self._patterns:
            if not pattern.search(answer):
                return f"the answer does not match the declared pattern {pattern.pattern!r}"
        return None
