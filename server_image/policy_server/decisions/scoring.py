"""Answers are scored by a reward model's server after they were given: a part of them, by chance.

No caller waits for it. What finds the queue full, is late or is refused has no score and is
counted; that is all that comes of it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from policy_api.contract import paths
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.scoring import Scoring
from policy_models import prompts
from policy_models.decision import Request

from policy_server.decisions.results import Decision
from policy_server.peer_metrics import QUEUE_FULL, REFUSED, UNASKED, PeerMetrics
from policy_server.peers import Peers, Unanswered

QUEUE = 64  # answers that wait; each is a prompt and its answer, so a few MB at the very most
AT_ONCE = 2  # a reward model on a CPU computes one after the other anyway

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """What an answer is worth."""

    decision_id: str
    score: float
    """In the unit of the reward model."""
    policy: str
    """The reward model."""
    version: int


def keep(score: Score) -> None:
    """Take a score that was given: here is where it is handed on, to the log of the process."""
    fields = {
        "decisionId": score.decision_id,
        "score": score.score,
        "scoredBy": f"{score.policy} version {score.version}",
    }
    log.info("score", extra={"fields": fields})


@dataclass(frozen=True)
class _Waiting:
    decision: Decision
    how: Scoring
    url: str | None


class Scorer:
    """Has answers scored, while `run` runs.

    Args:
        peers: Asks the reward model's server.
        metrics: Counts scores, and answers without one.
        random: Draws a number from 0 up to 1, for each answer.
        keep: Takes each score.
    """

    def __init__(
        self,
        peers: Peers,
        metrics: PeerMetrics,
        random: Callable[[], float],
        keep: Callable[[Score], None] = keep,
    ) -> None:
        self._peers = peers
        self._metrics = metrics
        self._random = random
        self._keep = keep
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(QUEUE)

    def offer(self, decision: Decision, config: ServingConfig) -> None:
        """Take an answer that was written, to be scored if chance has it so. It returns at once."""
        how = config.scoring
        if how is None or self._random() * 100 >= how.percent:
            return
        waiting = _Waiting(decision, how, config.peer(how.deployment, how.version))
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            self._metrics.dropped(decision.asked.role, QUEUE_FULL)

    async def run(self) -> None:
        """Score what was taken, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            waiting = await self._queue.get()
            role = waiting.decision.asked.role
            try:
                found = await self._score(waiting)
                if isinstance(found, str):
                    self._metrics.dropped(role, found)
                else:
                    self._metrics.scored(role, found.score)
                    self._keep(found)
            except Exception:  # a fault of ours in what is optional must not end the server
                self._metrics.dropped(role, REFUSED)
                log.exception("an answer could not be scored")

    async def _score(self, waiting: _Waiting) -> Score | str:
        """Return an answer's score, or why it has none."""
        if waiting.url is None:
            return UNASKED
        told = await self._peers.ask(
            waiting.url,
            paths.SCORES,
            _body(waiting.decision),
            milliseconds=waiting.how.timeout_milliseconds,
        )
        if isinstance(told, Unanswered):
            return told.reason
        return _read(waiting.decision.asked.decision_id, told)


def _body(decision: Decision) -> dict[str, Any]:
    """Return what the reward model is asked: what the policy was, and what it answered."""
    return {**_question(decision.asked.request), "candidates": [decision.chosen.action]}


def _question(request: Request) -> dict[str, Any]:
    if request.question is None:
        return {"prompt": prompts.of_object(request.state or {})}
    if request.question.prompt is not None:
        return {"prompt": request.question.prompt}
    turns = request.question.turns
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}


def _read(decision_id: str, told: Mapping[str, Any]) -> Score | str:
    """Return the score in an answer of POST /v1/scores; a server of another kind has none."""
    try:
        score = Score(
            decision_id,
            float(told["scores"][0]["score"]),
            str(told["policy"]),
            int(told["version"]),
        )
    except (LookupError, TypeError, ValueError):
        return REFUSED
    return score if math.isfinite(score.score) else REFUSED
