"""One decision, without HTTP: ask the policy, check its answer, count it, log it."""

import asyncio
import logging
import random
import time
import uuid
from dataclasses import dataclass

from policy_api.contract.artifact import Kind
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.serving import Mode
from policy_models.answers import AnswerCheck
from policy_models.baselines import allowed_of
from policy_models.decision import Decision as Found
from policy_models.decision import Option, Policy, Refusal, Request

from policy_server.artifact import Artifact
from policy_server.decisions import modes
from policy_server.decisions.modes import Answer, Chances, Source
from policy_server.decisions.serving import Serving, in_force
from policy_server.engine.asking import Asker, EngineFailedError, OverloadedError
from policy_server.metrics import (
    REASON_ANSWER_SCHEMA,
    REASON_ENGINE,
    REASON_SAFETY,
    REASON_TIMEOUT,
    Metrics,
)

log = logging.getLogger("policy_server.decisions")
engine_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What was asked, and when it was answered: of every decision, made or failed."""

    decision_id: str
    request: Request
    role: str
    mode: Mode
    """Which was in force."""
    seconds: float
    """In the server, waiting included."""


@dataclass(frozen=True)
class Fault:
    """Why the policy has no answer; it is ours."""

    status: int  # HTTP, 5xx
    code: str
    message: str
    reason: str | None
    """As a metric's label; None: the version has not even been asked."""


@dataclass(frozen=True)
class Decision:
    """What was decided."""

    asked: Asked
    answer: Answer
    unseen: tuple[str, ...] = ()
    failed: str | None = None
    """Why the policy has no answer and its baseline answered; None: it has one."""

    @property
    def chosen(self) -> Option:
        """What is answered."""
        return self.answer.chosen

    @property
    def ranking(self) -> tuple[Option, ...]:
        """The best first; the chosen one need not be it where chance has a part."""
        return self.answer.ranking


@dataclass(frozen=True)
class Failure:
    """A decision that failed."""

    asked: Asked
    fault: Fault


OVERLOADED = Fault(
    503,
    "Overloaded",
    "too many decisions are waiting: try again after the time that Retry-After says",
    None,
)
ENGINE_FAILED = Fault(
    500, "EngineFailed", "the model failed: the server's log says why", REASON_ENGINE
)


class DecisionService:
    """Answers with one version of one policy."""

    def __init__(self, artifact: Artifact, policy: Policy, asker: Asker, metrics: Metrics) -> None:
        self.artifact = artifact
        self.inputs = policy.inputs()
        self.writes = artifact.manifest.kind is Kind.CAUSAL_LM
        """Whether what it decides is a text of its own."""
        self.serving = Serving(ServingConfig())
        """What is in force."""
        self._policy = policy
        self._asker = asker
        self._metrics = metrics
        self._check = AnswerCheck(artifact.manifest.answer_schema)
        self._random = random.SystemRandom().random

    @property
    def busy_seconds(self) -> float:
        """How long the policy has been computing what it computes now."""
        return self._asker.busy_seconds

    def tell(self, config: ServingConfig) -> None:
        """Put what the deployment says in force, from the next decision on."""
        manifest = self.artifact.manifest
        self.serving = in_force(config, self._policy, manifest, writes=self.writes)
        baseline = None if self.serving.baseline is None else config.baseline
        fields = {
            "mode": config.mode or Mode.PRIMARY,
            "baseline": None if baseline is None else baseline.strategy,
        }
        log.info("serving", extra={"fields": fields})
        for problem in self.serving.problems:
            self._metrics.config_refused()
            log.error("%s", problem)

    async def decide(
        self, request: Request, role: str, *, ranks: bool = False
    ) -> Decision | Failure | Refusal:
        """Return the decision, or why there is none. A refusal is no decision: never counted.

        Args:
            request: What is to be decided.
            role: Under which it is asked.
            ranks: All candidates are to be ranked, and none is chosen: no mode has a part in it.
        """
        started = time.perf_counter()
        decision_id = str(uuid.uuid4())
        serving = self.serving
        outcome = await self._ask(request, serving.config, decision_id)
        if isinstance(outcome, Refusal):
            return outcome
        answer = self._ranked(outcome) if ranks else self._answer(outcome, request, serving)
        mode = serving.config.mode or Mode.PRIMARY
        asked = Asked(decision_id, request, role, mode, time.perf_counter() - started)
        result: Decision | Failure
        if answer is not None:
            unseen = outcome.unseen if isinstance(outcome, Found) else ()
            failed = outcome.reason if isinstance(outcome, Fault) else None
            result = Decision(asked, answer, unseen, failed)
        else:
            assert isinstance(outcome, Fault)  # to what the policy says there is an answer
            result = Failure(asked, outcome)
        self._record(result)
        return result

    async def _ask(
        self, request: Request, config: ServingConfig, decision_id: str
    ) -> Found | Fault | Refusal:
        """Return what the policy says, or why it says nothing that may be given out."""
        limit = config.timeout_milliseconds
        try:
            async with asyncio.timeout(None if limit is None else limit / 1000):
                outcome = await self._asker.ask(request)
        except TimeoutError:
            message = f"the policy has not answered within {limit} ms, its timeoutMilliseconds"
            return Fault(504, "Timeout", f"{message}: try again", REASON_TIMEOUT)
        except OverloadedError:
            return OVERLOADED
        except EngineFailedError:
            engine_log.exception("the model raised", extra={"fields": {"decisionId": decision_id}})
            return ENGINE_FAILED
        if self.writes and request.candidates is None and isinstance(outcome, Found):
            text = outcome.ranking[0].action
            if (wrong := self._check.violation(text)) is not None:
                unsafe = self._check.safety_violation(text) is not None
                reason = REASON_SAFETY if unsafe else REASON_ANSWER_SCHEMA
                return Fault(500, "AnswerSchemaViolation", wrong, reason)
        return outcome

    def _answer(self, outcome: Found | Fault, request: Request, serving: Serving) -> Answer | None:
        """Return what is answered; None: nothing, as the policy failed and there is no baseline."""
        chances = Chances.draw(self._random)
        if isinstance(outcome, Found):
            unsure = serving.config.mode is Mode.HYBRID
            fallback = self._fallback(request, serving) if unsure else None
            return modes.of_policy(outcome, serving.config, fallback, chances)
        if outcome.reason is None:
            return None  # sent away: a caller that comes back is answered by the policy
        fallback = self._fallback(request, serving)
        return (
            None
            if fallback is None
            else modes.of_failure(outcome.reason, serving.config, fallback, chances)
        )

    def _ranked(self, outcome: Found | Fault) -> Answer | None:
        if isinstance(outcome, Fault):
            return None
        return Answer(outcome.ranking[0], outcome.ranking, Source.POLICY)

    def _fallback(self, request: Request, serving: Serving) -> Found | None:
        """Return what the baseline says, without asking the model."""
        if serving.baseline is None:
            return None
        allowed = allowed_of(self._policy, request)
        return None if isinstance(allowed, Refusal) else serving.baseline.choose(request, allowed)

    def _record(self, result: Decision | Failure) -> None:
        """Count a decision and log it, made or failed: each passes here once."""
        asked, role = result.asked, result.asked.role
        reason = result.failed if isinstance(result, Decision) else result.fault.reason
        if isinstance(result, Failure) and reason is None:
            self._metrics.overloaded(role)
        else:
            self._metrics.decided(role, asked.seconds, reason)
        if reason == REASON_SAFETY:
            self._metrics.safety(role)
        if isinstance(result, Decision):
            answer = result.answer
            self._metrics.answered(
                role,
                answer.source,
                answer.cause,
                confidence=answer.chosen.confidence,
                auto_approved=answer.auto_approved,
            )
            if result.unseen:
                self._metrics.unseen(role, len(result.unseen))
        self._log(result, reason)

    def _log(self, result: Decision | Failure, reason: str | None) -> None:
        manifest, asked = self.artifact.manifest, result.asked
        fields = {
            "decisionId": asked.decision_id,
            "policy": manifest.policy,
            "version": manifest.version,
            "role": asked.role,
            "status": 200 if isinstance(result, Decision) else result.fault.status,
            "durationSeconds": round(asked.seconds, 6),
            "mode": asked.mode,
            "valid": reason is None and isinstance(result, Decision),
        }
        if isinstance(result, Decision):
            fields["source"] = result.answer.source
        if reason is not None:
            fields["reason"] = reason
        log.info("decision", extra={"fields": fields})
