"""What is answered, and with which probability: pure, from what the policy says and what is set.

The propensity of an action is the whole probability that this version answers with it, whichever
way led there: the policy's own draw, exploration, or the baseline below `minConfidence`. It is
computed from the same numbers that the draw is made from, so a log of it can be evaluated
off-policy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from policy_api.v1alpha1.serving import AutoApprove, Mode, ServingFields
from policy_models.decision import Decision, Option

from policy_server.metrics import REASON_CONFIDENCE, SOURCE_BASELINE, SOURCE_POLICY


class Source(StrEnum):
    """Whose answer it is."""

    POLICY = SOURCE_POLICY
    BASELINE = SOURCE_BASELINE


@dataclass(frozen=True)
class Chances:
    """Numbers from 0 up to 1, uniform and independent: what one answer leaves to chance."""

    policy: float
    """Which option the policy draws."""
    explore: float
    """Whether something else is tried."""
    other: float
    """What is tried then."""
    baseline: float
    """Which option the baseline draws."""

    @classmethod
    def draw(cls, random: Callable[[], float]) -> Self:
        """Draw them."""
        return cls(random(), random(), random(), random())


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    chosen: Option
    """Its `probability` is the propensity; None: nobody can say, or a person chooses."""
    ranking: tuple[Option, ...]
    """The best first, each with the probability of being answered."""
    source: Source
    cause: str | None = None
    """Why the baseline answered."""
    explored: bool = False
    auto_approved: bool | None = None
    """None: nothing says which decisions are approved."""


def of_policy(
    found: Decision, told: ServingFields, fallback: Decision | None, chances: Chances
) -> Answer:
    """Return the answer where the policy has one.

    Args:
        found: What the policy says.
        told: What the deployment says.
        fallback: What the baseline says; None: there is none, or it has no answer.
        chances: What is left to chance.
    """
    if told.mode is Mode.ADVISOR:
        return _advice(found, Source.POLICY)
    least = told.min_confidence if told.mode is Mode.HYBRID else None
    odds = Odds.of(
        found.ranking,
        () if fallback is None else fallback.ranking,
        least,
        0.0 if told.exploration is None else told.exploration.epsilon,
    )
    drawn = draw(found.ranking, chances.policy)
    source, cause, explored = Source.POLICY, None, False
    if fallback is not None and not _sure(drawn, least):
        source, cause = Source.BASELINE, REASON_CONFIDENCE
        drawn = draw(fallback.ranking, chances.baseline)
    elif chances.explore < odds.epsilon:
        others = [option for option in found.ranking if option is not drawn]
        explored, drawn = True, others[int(chances.other * len(others))]
    ranking = tuple(odds.of_answer(option) for option in found.ranking)
    chosen = next((option for option in ranking if option.action == drawn.action), None)
    if chosen is None:  # an answer of the baseline's own
        chosen = odds.of_answer(drawn)
        ranking = (chosen,)
    approved = _approved(chosen, source, told.auto_approve)
    return Answer(chosen, ranking, source, cause, explored, approved)


def of_failure(cause: str, told: ServingFields, fallback: Decision, chances: Chances) -> Answer:
    """Return the answer where the policy has none: the baseline's.

    The propensity is that of the baseline: that the policy fails does not depend on what the
    baseline then draws.

    Args:
        cause: Why the policy has none.
        told: What the deployment says.
        fallback: What the baseline says.
        chances: What is left to chance.
    """
    if told.mode is Mode.ADVISOR:
        return replace(_advice(fallback, Source.BASELINE), cause=cause)
    chosen = draw(fallback.ranking, chances.baseline)
    approved = _approved(chosen, Source.BASELINE, told.auto_approve)
    return Answer(chosen, fallback.ranking, Source.BASELINE, cause, auto_approved=approved)


@dataclass(frozen=True)
class Odds:
    """With which probability each action is answered."""

    epsilon: float
    """Of something else than what the policy drew; 0 where there is nothing else."""
    certain: bool
    """Whether the policy's own probabilities are known."""
    taken: dict[str, float]
    """By action: that the policy draws it and is sure enough."""
    sure: float
    """That the policy draws any of them and is sure enough."""
    unsure: float
    """That the policy draws what it is not sure enough of."""
    instead: dict[str, float]
    """By action: that the baseline takes it then."""

    @classmethod
    def of(
        cls,
        ranking: Sequence[Option],
        fallback: Sequence[Option],
        least: float | None,
        epsilon: float,
    ) -> Self:
        """Return the odds.

        Args:
            ranking: The policy's options, with the probabilities of its own draw.
            fallback: The baseline's; empty: the policy always decides.
            least: Confidence below which the baseline answers; None: it never does.
            epsilon: The probability of trying something else than what the policy drew.
        """
        taken: dict[str, float] = {}
        left: list[float] = []
        for option in ranking:
            own = option.probability or 0.0
            sure = not fallback or _sure(option, least)
            taken[option.action] = own if sure else 0.0
            left.append(0.0 if sure else own)
        return cls(
            epsilon if len(ranking) > 1 else 0.0,
            all(option.probability is not None for option in ranking),
            taken,
            math.fsum(taken.values()),
            math.fsum(left),
            {option.action: option.probability or 0.0 for option in fallback},
        )

    def propensity(self, action: str) -> float | None:
        """Return the probability that an action is answered; None: nobody can say."""
        if not self.certain:
            return None
        own = self.taken.get(action, 0.0)
        if self.epsilon and action in self.taken:
            others = self.sure - own
            own = own * (1 - self.epsilon) + others * self.epsilon / (len(self.taken) - 1)
        return min(1.0, max(0.0, own + self.unsure * self.instead.get(action, 0.0)))

    def of_answer(self, option: Option) -> Option:
        """Return an option with the probability that it is answered."""
        return option.taken(self.propensity(option.action))


def draw(ranking: Sequence[Option], chance: float) -> Option:
    """Return an option, drawn by the probabilities that they have; without them the best.

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


def _advice(found: Decision, source: Source) -> Answer:
    """Return the ranking alone: a person chooses, with a probability that nobody knows."""
    ranking = tuple(option.taken(None) for option in found.ranking)
    return Answer(ranking[0], ranking, source, auto_approved=False)


def _sure(option: Option, least: float | None) -> bool:
    return least is None or (option.confidence is not None and option.confidence >= least)


def _approved(chosen: Option, source: Source, wanted: AutoApprove | None) -> bool | None:
    """Say whether a decision needs no person; of the baseline's all do."""
    if wanted is None:
        return None
    return (
        source is Source.POLICY
        and _sure(chosen, wanted.min_confidence)
        and (wanted.actions is None or chosen.action in wanted.actions)
    )
