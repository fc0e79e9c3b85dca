"""One decision, without HTTP: ask the policy, check its answer, count it, log it."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from policy_api.contract.artifact import Kind
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.serving import Mode
from policy_models.answers import AnswerCheck
from policy_models.baselines import allowed_of
from policy_models.decision import Decision as Found
from policy_models.decision import Policy, Refusal, Request
from policy_models.fields import Violation

from policy_server.artifact import Artifact
from policy_server.decisions import modes
from policy_server.decisions.modes import Answer, Chances, Source
from policy_server.decisions.results import (
    ENGINE_FAILED,
    OVERLOADED,
    Asked,
    Decision,
    Failure,
    Fault,
    Outcome,
    new_id,
    timed_out,
)
from policy_server.decisions.serving import Serving, in_force
from policy_server.engine.asking import Asker, EngineFailedError, OverloadedError
from policy_server.metrics import REASON_ANSWER_SCHEMA, REASON_SAFETY, Metrics

log = logging.getLogger("policy_server.decisions")
engine_log = logging.getLogger(__name__)

_UNANSWERED = (TimeoutError, OverloadedError, EngineFailedError)


@dataclass(frozen=True)
class _Call:
    """One request while it is answered."""

    decision_id: str
    request: Request
    role: str
    serving: Serving
    """What was in force when it came."""
    began: float
    """By time.perf_counter."""


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

    async def decide(self, request: Request, role: str, *, ranks: bool = False) -> Outcome:
        """Return the decision, or why there is none. A refusal is no decision: never counted.

        Args:
            request: What is to be decided.
            role: Under which it is asked.
            ranks: All candidates are to be ranked, and none is chosen: no mode has a part in it.
        """
        call = _Call(new_id(), request, role, self.serving, time.perf_counter())
        limit = call.serving.config.timeout_milliseconds
        found: Found | Fault | Refusal
        try:
            async with asyncio.timeout(None if limit is None else limit / 1000):
                found = await self._asker.ask(request)
        except _UNANSWERED as error:
            found = self._fault(call, error)
        return self._settled(call, found, ranks=ranks)

    async def stream(
        self, request: Request, role: str, decision_id: str
    ) -> AsyncGenerator[str | Outcome]:
        """Yield an answer's text as it is written, if it is, and last what `decide` returns.

        Text that was yielded may turn out to break the answer schema: then the last is a Failure.
        What must not be said at all, or may be the baseline's in the end, is yielded when it is
        whole and judged.
        """
        call = _Call(decision_id, request, role, self.serving, time.perf_counter())
        held = self._check.withholds or call.serving.baseline is not None
        text = ""
        found: Found | Fault | Refusal | None = None
        async with aclosing(self._said(call)) as said:
            async for one in said:
                if not isinstance(one, str):
                    found = one
                elif not held:
                    text += one
                    yield one
        assert found is not None  # the outcome is the last that is said
        result = self._settled(call, found)
        if isinstance(result, Decision) and result.written is not None:
            answer = result.chosen.action
            if answer.startswith(text) and len(answer) > len(text):
                yield answer[len(text) :]
        yield result

    async def _said(self, call: _Call) -> AsyncGenerator[str | Found | Fault | Refusal]:
        """Yield what the policy says, within its time."""
        limit = call.serving.config.timeout_milliseconds
        loop = asyncio.get_running_loop()
        until = None if limit is None else loop.time() + limit / 1000
        async with aclosing(self._asker.stream(call.request)) as said:
            while True:
                one: str | Found | Fault | Refusal
                try:
                    async with asyncio.timeout_at(until):
                        one = await anext(said)
                except _UNANSWERED as error:
                    one = self._fault(call, error)
                yield one
                if not isinstance(one, str):
                    return

    def _fault(self, call: _Call, error: Exception) -> Fault:
        """Return why the policy has no answer; call it where the error is handled."""
        if isinstance(error, TimeoutError):
            return timed_out(call.serving.config.timeout_milliseconds)
        if isinstance(error, OverloadedError):
            return OVERLOADED
        fields = {"decisionId": call.decision_id}
        engine_log.exception("the model raised", extra={"fields": fields})
        return ENGINE_FAILED

    def _settled(
        self, call: _Call, found: Found | Fault | Refusal, *, ranks: bool = False
    ) -> Outcome:
        """Judge, count and log what came of a request."""
        if isinstance(found, Refusal):
            return found
        outcome = self._judged(call.request, found)
        answer = self._ranked(outcome) if ranks else self._answer(outcome, call)
        mode = call.serving.config.mode or Mode.PRIMARY
        seconds = time.perf_counter() - call.began
        asked = Asked(call.decision_id, call.request, call.role, mode, seconds)
        result: Decision | Failure
        if answer is not None:
            result = self._made(asked, outcome, answer)
        else:
            assert isinstance(outcome, Fault)  # to what the policy says there is an answer
            result = Failure(asked, outcome)
        self._count(result)
        self._log(result)
        return result

    def _judged(self, request: Request, found: Found | Fault) -> Found | Fault:
        """Return what may be given out: an answer that was generated keeps its schema."""
        if isinstance(found, Fault) or not self.writes or request.candidates is not None:
            return found
        judged = self._check.judged(found)
        if isinstance(judged, Violation):
            reason = REASON_SAFETY if judged.unsafe else REASON_ANSWER_SCHEMA
            return Fault(500, "AnswerSchemaViolation", judged.message, reason)
        return judged

    def _answer(self, outcome: Found | Fault, call: _Call) -> Answer | None:
        """Return what is answered; None: nothing, as the policy failed and there is no baseline."""
        chances, config = Chances.draw(self._random), call.serving.config
        if isinstance(outcome, Found):
            unsure = config.mode is Mode.HYBRID
            return modes.of_policy(
                outcome, config, self._fallback(call) if unsure else None, chances
            )
        if outcome.reason is None:
            return None  # sent away: a caller that comes back is answered by the policy
        fallback = self._fallback(call)
        if fallback is None:
            return None
        return modes.of_failure(outcome.reason, config, fallback, chances)

    def _ranked(self, outcome: Found | Fault) -> Answer | None:
        if isinstance(outcome, Fault):
            return None
        return Answer(outcome.ranking[0], outcome.ranking, Source.POLICY)

    def _fallback(self, call: _Call) -> Found | None:
        """Return what the baseline says, without asking the model."""
        baseline, request = call.serving.baseline, call.request
        if baseline is None:
            return None
        allowed = allowed_of(self._policy, request)
        return None if isinstance(allowed, Refusal) else baseline.choose(request, allowed)

    def _made(self, asked: Asked, outcome: Found | Fault, answer: Answer) -> Decision:
        generated = self.writes and asked.request.candidates is None
        said = self._check.read(answer.chosen.action) if generated else {}
        assert not isinstance(said, Violation)  # the policy's and the baseline's are checked
        fields = self._check.named(said, asked.decision_id) if said else None
        if isinstance(outcome, Fault):
            return Decision(asked, answer, fields=fields, failed=outcome.reason)
        written = outcome.written if answer.source is Source.POLICY else None
        return Decision(asked, answer, outcome.unseen, fields, written)

    def _count(self, result: Decision | Failure) -> None:
        """Count a decision, made or failed: each passes here once."""
        asked, role, reason = result.asked, result.asked.role, _reason(result)
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

    def _log(self, result: Decision | Failure) -> None:
        manifest, asked, reason = self.artifact.manifest, result.asked, _reason(result)
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


def _reason(result: Decision | Failure) -> str | None:
    """Return why the policy failed, as a metric's label; None: it did not, or was not asked."""
    return result.failed if isinstance(result, Decision) else result.fault.reason
