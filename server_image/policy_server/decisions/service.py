"""One decision, without HTTP: ask the model, check its answer, count it, log it."""

import logging
import re
import time
import uuid
from dataclasses import dataclass

from policy_api.v1alpha1.training import AnswerSchema
from policy_models.text.conversation import Answer, Question, Refusal

from policy_server.artifact import Artifact
from policy_server.engine.batching import Batcher, EngineFailedError, OverloadedError
from policy_server.metrics import REASON_ANSWER_SCHEMA, REASON_ENGINE, REASON_OVERLOADED, Metrics

log = logging.getLogger("policy_server.decisions")
engine_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """A valid answer."""

    decision_id: str
    answer: Answer
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A decision that failed; the fault is ours."""

    decision_id: str
    status: int  # HTTP, 5xx
    code: str
    message: str


class AnswerCheck:
    """The policy's declared answer schema, compiled once."""

    def __init__(self, schema: AnswerSchema) -> None:
        self._patterns = [re.compile(pattern) for pattern in schema.patterns]
        self._min = schema.min_length
        self._max = schema.max_length

    def violation(self, answer: str) -> str | None:
        """Return what is wrong with the answer, without quoting it, or None."""
        if len(answer) < self._min:
            return f"the answer has {len(answer)} characters, at least {self._min} are declared"
        if self._max is not None and len(answer) > self._max:
            return f"the answer has {len(answer)} characters, at most {self._max} are declared"
        for pattern in self._patterns:
            if not pattern.search(answer):
                return f"the answer does not match the declared pattern {pattern.pattern!r}"
        return None


class DecisionService:
    """Answers with one version of one policy."""

    def __init__(self, artifact: Artifact, batcher: Batcher, metrics: Metrics) -> None:
        self.artifact = artifact
        self._batcher = batcher
        self._metrics = metrics
        self._check = AnswerCheck(artifact.manifest.answer_schema)

    async def decide(self, question: Question, role: str) -> Decision | Failure | Refusal:
        """Return the answer, or why there is none. A refusal is not a decision: never counted."""
        started = time.perf_counter()
        decision_id = str(uuid.uuid4())
        try:
            outcome = await self._batcher.ask(question)
        except OverloadedError:
            result: Decision | Failure = Failure(
                decision_id,
                503,
                "Overloaded",
                "too many decisions are waiting: try again after the time that Retry-After says",
            )
            reason: str | None = REASON_OVERLOADED
        except EngineFailedError:
            engine_log.exception("the model raised", extra={"fields": {"decisionId": decision_id}})
            result = Failure(
                decision_id, 500, "EngineFailed", "the model failed: the server's log says why"
            )
            reason = REASON_ENGINE
        else:
            if isinstance(outcome, Refusal):
                return outcome
            violation = self._check.violation(outcome.text)
            if violation is None:
                result = Decision(decision_id, outcome, time.perf_counter() - started)
                reason = None
            else:
                result = Failure(decision_id, 500, "AnswerSchemaViolation", violation)
                reason = REASON_ANSWER_SCHEMA
        seconds = time.perf_counter() - started
        self._metrics.decided(role, seconds, reason)
        self._log(result, role, seconds, reason)
        return result

    def _log(
        self, result: Decision | Failure, role: str, seconds: float, reason: str | None
    ) -> None:
        manifest = self.artifact.manifest
        fields = {
            "decisionId": result.decision_id,
            "policy": manifest.policy,
            "version": manifest.version,
            "role": role,
            "status": 200 if isinstance(result, Decision) else result.status,
            "durationSeconds": round(seconds, 6),
            "valid": reason is None,
        }
        if reason is not None:
            fields["reason"] = reason
        log.info("decision", extra={"fields": fields})
