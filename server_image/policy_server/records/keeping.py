"""What the log keeps of a decision, and of what is said of it later. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from policy_models.decision import Option, Question, Request
from policy_records.entries import DecisionEntry
from policy_records.redaction import Redactor

from policy_server.decisions.modes import Source
from policy_server.decisions.results import Decision, Failure

RANKED = 10
"""Options of a ranking that are kept; candidates are kept whole."""


@dataclass(frozen=True)
class Decider:
    """Who decides here."""

    policy: str
    version: int
    writes: bool
    """Whether what it decides is a text of its own."""


def entry_of(
    result: Decision | Failure, decider: Decider, redactor: Redactor, now: datetime
) -> DecisionEntry:
    """Return what is kept of a decision, made or failed.

    Args:
        result: The decision.
        decider: Who made it.
        redactor: Replaces what must not be kept.
        now: When it was answered.
    """
    asked, about = result.asked, result.asked.about
    request = asked.request
    candidates = None if request.candidates is None else list(request.candidates)
    kept = redactor.apply("candidates", candidates)
    made = (
        _made(result, decider, _Texts(request, kept, redactor))
        if isinstance(result, Decision)
        else {"source": Source.POLICY, "valid": False, "failure": result.fault.reason}
    )
    return DecisionEntry(
        id=UUID(asked.decision_id),
        at=now - timedelta(seconds=asked.seconds),
        policy=decider.policy,
        version=decider.version,
        role=asked.role,
        mode=asked.mode,
        latency_ms=round(1000 * asked.seconds, 3),
        weight=about.weight,
        run_id=about.run_id,
        request_id=about.request_id,
        caller=about.caller,
        state=redactor.apply("state", request.state),
        prompt=redactor.apply("prompt", _prompt(request.question)),
        candidates=kept,
        context=redactor.apply("context", about.context),
        **made,
    )


class _Texts:
    """What is kept of an option's text: a candidate's as among the candidates."""

    def __init__(self, request: Request, kept: Sequence[str] | None, redactor: Redactor) -> None:
        self._known = dict(zip(request.candidates or (), kept or (), strict=True))
        self._redactor = redactor

    def of(self, text: str) -> Any:
        known = self._known.get(text)
        return self._redactor.apply("answer", text) if known is None else known

    def fields(self, found: Mapping[str, Any] | None) -> Any:
        return self._redactor.apply("fields", found)


def _made(result: Decision, decider: Decider, texts: _Texts) -> dict[str, Any]:
    chosen, answer = result.chosen, result.answer
    common = {
        "source": answer.source,
        "valid": result.failed is None,
        "failure": result.failed,
        "ranking": None if result.written is not None else _ranking(result.ranking, texts),
        "unseen": list(result.unseen) or None,
    }
    if result.asked.ranks:
        return common
    return common | {
        "answer" if decider.writes else "action": texts.of(chosen.action),
        "fields": texts.fields(result.fields),
        "propensity": chosen.probability,
        "confidence": chosen.confidence,
        "auto_approved": answer.auto_approved,
        "tokens": chosen.tokens,
    }


def _ranking(ranking: Sequence[Option], texts: _Texts) -> list[dict[str, Any]]:
    found = []
    for option in ranking[:RANKED]:
        told = {"probability": option.probability, "confidence": option.confidence}
        known = {name: value for name, value in told.items() if value is not None}
        found.append({"action": texts.of(option.action), "score": option.score, **known})
    return found


def _prompt(question: Question | None) -> Any:
    if question is None:
        return None
    if question.prompt is not None:
        return question.prompt
    return [{"role": turn.role, "content": turn.content} for turn in question.turns]
