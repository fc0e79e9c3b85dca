"""One decision, without HTTP: ask the policy, check its answer, count it, log it."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from policy_api.contract.artifact import Kind
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.serving import Mode
from policy_models.answers import AnswerCheck
from policy_models.baselines import Chooser, Fixed, allowed_of
from policy_models.decision import Decision as Found
from policy_models.decision import Policy, Refusal, Request
from policy_models.fields import Violation

from policy_server.artifact import Artifact
from policy_server.decisions import modes
from policy_server.decisions.accounts import Accounts
from policy_server.decisions.modes import Answer, Chances, Source
from policy_server.decisions.results import (
    ENGINE_FAILED,
    OVERLOADED,
    About,
    Asked,
    Decision,
    Failure,
    Fault,
    Outcome,
    new_id,
    timed_out,
)
from policy_server.decisions.scoring import Scorer
from policy_server.decisions.serving import Serving, in_force
from policy_server.engine.asking import Asker, EngineFailedError, OverloadedError
from policy_server.metrics import REASON_ANSWER_SCHEMA, REASON_SAFETY, Metrics

log = logging.getLogger("policy_server.decisions")
engine_log = logging.getLogger(__name__)

NOTHING = About()
JUDGES = 2  # answers that are judged at once: none takes longer than patterns.SECONDS

_UNANSWERED = (TimeoutError, OverloadedError, EngineFailedError)


@dataclass(frozen=True)
class _Call:
    """One request while it is answered."""

    decision_id: str
    request: Request
    role: str
    serving: Serving
    """What was in force when it came."""
    about: About
    ranks: bool
    began: float
    """By time.perf_counter."""


class DecisionService:
    """Answers with one version of one policy."""

    def __init__(
        self,
        artifact: Artifact,
        policy: Policy,
        asker: Asker,
        metrics: Metrics,
        *,
        keep: Callable[[Decision | Failure], None] = lambda _: None,
        scorer: Scorer | None = None,
    ) -> None:
        """Take what it asks.

        Args:
            artifact: The version that answers.
            policy: The artifact, opened.
            asker: Asks the policy, and runs.
            metrics: Count what is answered.
            keep: Takes each decision, made or failed, for the decision log; it must not wait.
            scorer: Has another policy score what is answered.
        """
        self.artifact = artifact
        self.inputs = policy.inputs()
        self.writes = artifact.manifest.kind is Kind.CAUSAL_LM
        """Whether what it decides is a text of its own."""
        self.serving = Serving(ServingConfig())
        """What is in force."""
        self.slow = policy.slow
        """Whether an answer takes so long that its caller may go away meanwhile."""
        metrics.engine.watch(lambda: asker.waiting)
        self._policy = policy
        self._asker = asker
        self._metrics = metrics
        self._accounts = Accounts(artifact.manifest, metrics)
        self._keep = keep
        self._scorer = scorer
        self._check = AnswerCheck(artifact.manifest.answer_schema)
        self._judges = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        # Seeded by the system, and without asking it four times for each answer.
        self._random = random.Random().random  # noqa: S311 - no secret hangs on it

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
        self, request: Request, role: str, about: About = NOTHING, *, ranks: bool = False
    ) -> Outcome:
        """Return the decision, or why there is none. A refusal is no decision: never counted.

        Args:
            request: What is to be decided.
            role: Under which it is asked.
            about: What the request says beside that.
            ranks: All candidates are to be ranked, and none is chosen: no mode has a part in it.
        """
        call = _Call(new_id(), request, role, self.serving, about, ranks, time.perf_counter())
        try:
            return await self._settled(call, await self._found(call))
        except asyncio.CancelledError:
            self._accounts.left(call.decision_id, call.role, time.perf_counter() - call.began)
            raise

    async def _found(self, call: _Call) -> Found | Fault | Refusal:
        """Return what the policy says, within its time."""
        limit = call.serving.config.timeout_milliseconds
        try:
            async with asyncio.timeout(None if limit is None else limit / 1000):
                return await self._asker.ask(call.request)
        except _UNANSWERED as error:
            return self._fault(call, error)

    async def stream(
        self, request: Request, role: str, decision_id: str, about: About = NOTHING
    ) -> AsyncGenerator[str | Outcome]:
        """Yield an answer's text as it is written, if it is, and last what `decide` returns.

        Text that was yielded may turn out to break the answer schema: then the last is a Failure.
        What must not be said at all, or may be the baseline's in the end, is yielded when it is
        whole and judged. In mode Advisor no text is yielded: a person takes one of the ranking.
        """
        began = time.perf_counter()
        call = _Call(decision_id, request, role, self.serving, about, ranks=False, began=began)
        advised = call.serving.config.mode is Mode.ADVISOR
        held = advised or self._check.withholds or call.serving.baseline is not None
        text = ""
        found: Found | Fault | Refusal | None = None
        try:
            async with aclosing(self._said(call)) as said:
                async for one in said:
                    if not isinstance(one, str):
                        found = one
                    elif not held:
                        text += one
                        yield one
            assert found is not None  # the outcome is the last that is said
            result = await self._settled(call, found)
        except (asyncio.CancelledError, GeneratorExit):
            self._accounts.left(call.decision_id, call.role, time.perf_counter() - call.began)
            raise
        if isinstance(result, Decision) and self._generates(request) and not advised:
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

    async def _settled(self, call: _Call, found: Found | Fault | Refusal) -> Outcome:
        """Judge, count, log and keep what came of a request."""
        if isinstance(found, Refusal):
            return found
        if isinstance(found, Found) and found.written is not None:
            wrote = found.ranking[0].tokens or 0
            self._metrics.engine.generated(call.role, found.written.prompt_tokens, wrote)
        outcome = await self._judged(call.request, found)
        answer = self._ranked(outcome) if call.ranks else self._answer(outcome, call)
        mode = call.serving.config.mode or Mode.PRIMARY
        asked = Asked(
            call.decision_id,
            call.request,
            call.role,
            mode,
            time.perf_counter() - call.began,
            call.about,
            call.ranks,
        )
        result: Decision | Failure
        if answer is not None:
            result = self._made(asked, outcome, answer, call.serving.baseline)
        else:
            assert isinstance(outcome, Fault)  # to what the policy says there is an answer
            result = Failure(asked, outcome)
        self._accounts.take(result)
        self._keep(result)
        self._offer(result, call)
        return result

    def _offer(self, result: Decision | Failure, call: _Call) -> None:
        """Have what the policy wrote scored, perhaps and later."""
        if self._scorer is None or not self._generates(call.request):
            return
        if isinstance(result, Decision) and result.answer.source is Source.POLICY:
            self._scorer.offer(result, call.serving.config)

    def _generates(self, request: Request) -> bool:
        """Whether the answer to a request is a text that is written for it."""
        return self.writes and request.candidates is None

    async def _judged(self, request: Request, found: Found | Fault) -> Found | Fault:
        """Return what may be given out: an answer that was generated keeps its schema.

        It is judged beside the event loop, which some pattern would hold for long.
        """
        if isinstance(found, Fault) or not self._generates(request):
            return found
        judge = self._check.judged
        if self._check.searches:
            loop = asyncio.get_running_loop()
            judged = await loop.run_in_executor(self._judges, judge, found)
        else:
            judged = judge(found)
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

    def _made(
        self, asked: Asked, outcome: Found | Fault, answer: Answer, baseline: Chooser | None
    ) -> Decision:
        said: Mapping[str, Any] | None = None
        if answer.source is Source.POLICY and isinstance(outcome, Found):
            said = outcome.fields
        elif isinstance(baseline, Fixed):
            said = baseline.fields
        fields = self._check.named(said, asked.decision_id) if said else None
        if isinstance(outcome, Fault):
            return Decision(asked, answer, fields=fields, failed=outcome.reason)
        written = outcome.written if answer.source is Source.POLICY else None
        return Decision(asked, answer, outcome.unseen, fields, written)
