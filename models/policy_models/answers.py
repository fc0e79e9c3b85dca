"""What a valid answer of a text policy looks like, and what it says: training, server, CLI."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from policy_api.v1alpha1.answers import ITEM_ID
from policy_api.v1alpha1.training import AnswerSchema

from policy_models.decision import Decision
from policy_models.fields import Reader, Violation


class AnswerCheck:
    """The policy's declared answer schema, compiled once.

    Raises:
        re.error: A pattern is no regular expression; see `faults`.
    """

    def __init__(self, schema: AnswerSchema) -> None:
        fields = schema.fields or []
        self._patterns = [re.compile(pattern) for pattern in schema.patterns]
        self._forbidden = [re.compile(pattern) for pattern in schema.forbidden or ()]
        self.withholds = bool(self._forbidden)
        """Whether some text must never be said, so that none may be before it is whole."""
        self._forbidden = [re.compile(pattern) for pattern in schema.forbidden or ()]
        self._min = schema.min_length
        self._max = schema.max_length
        self._reader = Reader(fields)
        self._lists = [field.name for field in fields if field.items is not None]
        sure = [field for field in fields if field.name == schema.confidence]
        self._sure = next(((f.name, f.max or 1.0) for f in sure), None)

    def read(self, answer: str) -> dict[str, Any] | Violation:
        """Return the fields of a valid answer, or what is wrong with it."""
        for pattern in self._forbidden:
            if pattern.search(answer):
                return Violation(
                    f"the answer has what the pattern {pattern.pattern!r} forbids", unsafe=True
                )
        if len(answer) < self._min:
            return Violation(
                f"the answer has {len(answer)} characters, at least {self._min} are declared"
            )
        if self._max is not None and len(answer) > self._max:
            return Violation(
                f"the answer has {len(answer)} characters, at most {self._max} are declared"
            )
        for pattern in self._patterns:
            if not pattern.search(answer):
                return Violation(
                    f"the answer does not match the declared pattern {pattern.pattern!r}"
                )
        return self._reader.read(answer)

    def judged(self, decision: Decision) -> Decision | Violation:
        """Return a decision whose answer was generated with what the answer says, or what is wrong.

        Its confidence is then the field that the schema names, if it names one.
        """
        option = decision.ranking[0]
        fields = self.read(option.action)
        if isinstance(fields, Violation):
            return fields
        if self._sure is not None:
            name, most = self._sure
            option = replace(option, confidence=fields[name] / most)
        return replace(decision, ranking=(option,), fields=fields or None)

    def named(self, fields: Mapping[str, Any], decision_id: str) -> dict[str, Any]:
        """Return fields, in which each entry of a list has an id that no other entry has."""
        entries = {
            name: [
                {ITEM_ID: f"{decision_id}.{name}.{place}", **entry}
                for place, entry in enumerate(fields[name])
            ]
            for name in self._lists
        }
        return {**fields, **entries}


def faults(schema: AnswerSchema) -> Iterator[tuple[str, str]]:
    """Yield what no answer can be judged by: the field of the schema, and a sentence."""
    for name, patterns in (("patterns", schema.patterns), ("forbidden", schema.forbidden or ())):
        for place, pattern in enumerate(patterns):
            if said := _fault(pattern):
                yield f"answerSchema.{name}[{place}]", said
    for place, field in enumerate(schema.fields or ()):
        where = f"answerSchema.fields[{place}].pattern"
        if field.pattern is None:
            continue
        if said := _fault(field.pattern):
            yield where, said
        elif (groups := re.compile(field.pattern).groups) != 1:
            yield where, f"{field.pattern!r} has {groups} groups, wanted one: write others as (?:…)"


def _fault(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return None
