"""One decision, without HTTP: ask the policy, check its answer, count it, log it."""

import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from policy_api.contract.artifact import Kind
from policy_models.answers import AnswerCheck
from policy_models.decision import Decision as Found
from policy_models.decision import Option, Policy, Refusal, Request, Written
from policy_models.fields import Violation

from policy_server.artifact import Artifact
from policy_server.engine.asking import Asker, EngineFailedError, OverloadedError
from policy_server.metrics import REASON_ANSWER_SCHEMA, REASON_ENGINE, Metrics

log = logging.getLogger("policy_server.decisions")
engine_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """What was decided."""

    decision_id: str
    chosen: Option
    ranking: tuple[Option, ...]
    """The best first; the chosen one need not be it where the policy draws."""
    unseen: tuple[str, ...]
    fields: Mapping[str, Any] | None
    """What a generated answer says; each entry of a list has an id of its own."""
    written: Written | None
    """How an answer was generated; None: it was not."""
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A decision that failed; the fault is the version's, or its server's."""

    decision_id: str
    code: str
    message: str
    reason: str
    """As a metric's label."""


@dataclass(frozen=True)
class Overload:
    """A request that was sent away, since too many wait: the version was not asked."""

    decision_id: str


_UNANSWERED = (OverloadedError, EngineFailedError)
_Unanswered = OverloadedError | EngineFailedError
Outcome = Decision | Failure | Overload | Refusal
_STATUS = {Decision: 200, Failure: 500, Overload: 503}  # HTTP


class DecisionService:
    """Answers with one version of one policy."""

    def __init__(self, artifact: Artifact, policy: Policy, asker: Asker, metrics: Metrics) -> None:
        self.artifact = artifact
        self.inputs = policy.inputs()
        self.writes = artifact.manifest.kind is Kind.CAUSAL_LM
        """Whether what it decides is a text of its own."""
        self._asker = asker
        self._metrics = metrics
        self._check = AnswerCheck(artifact.manifest.answer_schema)
        self._chance = random.SystemRandom()

    @property
    def busy_seconds(self) -> float:
        """How long the policy has been computing what it computes now."""
        return self._asker.busy_seconds

    async def decide(self, request: Request, role: str) -> Outcome:
        """Return the decision, or why there is none. A refusal is no decision: never counted."""
        began, decision_id = time.perf_counter(), new_id()
        found: Found | Refusal | _Unanswered
        try:
            found = await self._asker.ask(request)
        except _UNANSWERED as error:
            found = error
        return self._settled(request, role, decision_id, found, began)

    async def stream(
        self, request: Request, role: str, decision_id: str
    ) -> AsyncGenerator[str | Outcome]:
        """Yield an answer's text as it is written, if it is, and last what `decide` returns.

        Text that was yielded may turn out to break the answer schema: then the last is a Failure.
        """
        began, text = time.perf_counter(), ""
        found: Found | Refusal | _Unanswered | None = None
        try:
            async with aclosing(self._asker.stream(request)) as said:
                async for one in said:
                    if isinstance(one, str):
                        text += one
                        yield one
                    else:
                        found = one
        except _UNANSWERED as error:
            found = error
        assert found is not None  # an asker's last word is the outcome
        result = self._settled(request, role, decision_id, found, began)
        if isinstance(result, Decision) and result.written is not None:
            answer = result.chosen.action
            if answer.startswith(text) and len(answer) > len(text):
                yield answer[len(text) :]
        yield result

    def _settled(
        self,
        request: Request,
        role: str,
        decision_id: str,
        found: Found | Refusal | _Unanswered,
        began: float,
    ) -> Outcome:
        """Judge, count and log what came of a request."""
        seconds = time.perf_counter() - began
        judged = self._judged(request, decision_id, found)
        if isinstance(judged, Refusal):
            return judged
        result = self._made(judged, decision_id, seconds) if isinstance(judged, Found) else judged
        self._count(result, role, seconds)
        self._log(result, role, seconds)
        return result

    def _judged(
        self, request: Request, decision_id: str, found: Found | Refusal | _Unanswered
    ) -> Found | Refusal | Failure | Overload:
        if isinstance(found, OverloadedError):
            return Overload(decision_id)
        if isinstance(found, EngineFailedError):
            fields = {"decisionId": decision_id}
            engine_log.error("the model raised", exc_info=found, extra={"fields": fields})
            sentence = "the model failed: the server's log says why"
            return Failure(decision_id, "EngineFailed", sentence, REASON_ENGINE)
        if self.writes and request.candidates is None and isinstance(found, Found):
            judged = self._check.judged(found)
            if isinstance(judged, Violation):
                return Failure(
                    decision_id, "AnswerSchemaViolation", judged.message, REASON_ANSWER_SCHEMA
                )
            return judged
        return found

    def _made(self, found: Found, decision_id: str, seconds: float) -> Decision:
        chosen = draw(found.ranking, self._chance.random())
        fields = None if found.fields is None else self._check.named(found.fields, decision_id)
        return Decision(
            decision_id, chosen, found.ranking, found.unseen, fields, found.written, seconds
        )

    def _count(self, result: Decision | Failure | Overload, role: str, seconds: float) -> None:
        match result:
            case Overload():
                self._metrics.overloaded(role)
            case Failure():
                self._metrics.decided(role, seconds, result.reason)
            case Decision():
                self._metrics.decided(role, seconds, None)
                if result.unseen:
                    self._metrics.unseen(role, len(result.unseen))

    def _log(self, result: Decision | Failure | Overload, role: str, seconds: float) -> None:
        manifest = self.artifact.manifest
        fields = {
            "decisionId": result.decision_id,
            "policy": manifest.policy,
            "version": manifest.version,
            "role": role,
            "status": _STATUS[type(result)],
            "durationSeconds": round(seconds, 6),
            "valid": isinstance(result, Decision),
        }
        if isinstance(result, Failure):
            fields["reason"] = result.reason
        log.info("decision", extra={"fields": fields})


def new_id() -> str:
    """Return an id for a decision."""
    return str(uuid.uuid4())


def draw(ranking: Sequence[Option], chance: float) -> Option:
    """Return an option, drawn by the policy's own probabilities; without them the best.

    Args:
        ranking: The best first.
        chance: From 0 up to 1, uniformly.
    """
    total = 0.0
    for option in ranking:
        if option.probability is None:
            return ranking[0]
        total += option.probability
        if chance < total:
            return option
    return ranking[0]  # the probabilities add up to a little less than 1
