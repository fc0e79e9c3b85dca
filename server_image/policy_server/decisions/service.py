"""One decision, without HTTP: ask the policy, check its answer, count it, log it."""

import logging
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from policy_api.contract.artifact import Kind
from policy_models.answers import AnswerCheck
from policy_models.decision import Decision as Found
from policy_models.decision import Option, Policy, Refusal, Request

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
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A decision that failed; the fault is ours."""

    decision_id: str
    status: int  # HTTP, 5xx
    code: str
    message: str
    reason: str | None
    """As a metric's label; None: the version has not even been asked."""


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

    async def decide(self, request: Request, role: str) -> Decision | Failure | Refusal:
        """Return the decision, or why there is none. A refusal is no decision: never counted."""
        started = time.perf_counter()
        decision_id = str(uuid.uuid4())
        outcome = await self._ask(request, decision_id)
        if isinstance(outcome, Refusal):
            return outcome
        seconds = time.perf_counter() - started
        if isinstance(outcome, Failure):
            result: Decision | Failure = outcome
            reason: str | None = outcome.reason
        else:
            chosen = draw(outcome.ranking, self._chance.random())
            result = Decision(decision_id, chosen, outcome.ranking, outcome.unseen, seconds)
            reason = None
        if isinstance(result, Failure) and reason is None:
            self._metrics.overloaded(role)
        else:
            self._metrics.decided(role, seconds, reason)
        if isinstance(result, Decision) and result.unseen:
            self._metrics.unseen(role, len(result.unseen))
        self._log(result, role, seconds, reason)
        return result

    async def _ask(self, request: Request, decision_id: str) -> Found | Failure | Refusal:
        try:
            outcome = await self._asker.ask(request)
        except OverloadedError:
            return Failure(
                decision_id,
                503,
                "Overloaded",
                "too many decisions are waiting: try again after the time that Retry-After says",
                None,
            )
        except EngineFailedError:
            engine_log.exception("the model raised", extra={"fields": {"decisionId": decision_id}})
            return Failure(
                decision_id,
                500,
                "EngineFailed",
                "the model failed: the server's log says why",
                REASON_ENGINE,
            )
        if self.writes and request.candidates is None and isinstance(outcome, Found):
            violation = self._check.violation(outcome.ranking[0].action)
            if violation is not None:
                return Failure(
                    decision_id, 500, "AnswerSchemaViolation", violation, REASON_ANSWER_SCHEMA
                )
        return outcome

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
            "valid": isinstance(result, Decision),
        }
        if reason is not None:
            fields["reason"] = reason
        log.info("decision", extra={"fields": fields})


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
