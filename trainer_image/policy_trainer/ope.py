"""Off-policy evaluation: what another policy would have earned, from logged decisions. Pure numpy.

One decision a row (a contextual bandit): the context was what it was, the logging policy chose an
action with a known propensity, and its reward was seen. Each estimator is the mean of one number a
row, so an interval and a paired difference of two policies are those of means.

- `ips`: inverse propensity scoring (Horvitz and Thompson 1952). Unbiased, of high variance.
- `snips`: self-normalised (Swaminathan and Joachims 2015). Bounded by the rewards that were seen.
- `dm`: direct method, a model of the reward alone. As good as the model.
- `dr`: doubly robust (Dudík, Langford and Li 2011). Unbiased if propensities or model are right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

import numpy as np

from policy_trainer.errors import DataInvalidError

LEAST_ROWS = 50  # of effective sample size, below which an interval means nothing
LEAST_SHARE = 0.005  # of the rows

Numbers = Any  # numpy.ndarray, one number a row


class Estimator(StrEnum):
    """How the value is estimated."""

    IPS = "ips"
    SNIPS = "snips"
    DM = "dm"
    DR = "dr"


@dataclass(frozen=True)
class Logged:
    """Logged decisions, beside what the other policy would do and what a model expects."""

    rewards: Numbers
    propensities: Numbers
    """The logging policy's probability of the action that it took, above 0."""
    target: Numbers
    """The other policy's probability of that same action."""
    predicted: Numbers | None = None
    """The model's reward of that action; dm and dr need it."""
    value: Numbers | None = None
    """The model's mean reward over the other policy's actions; dm and dr need it."""

    @property
    def weights(self) -> Numbers:
        """How much likelier the other policy takes each logged action."""
        return self.target / self.propensities


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


def effective_sample_size(weights: Numbers) -> float:
    """Return how many rows of weight 1 would say as much (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def check_overlap(logged: Logged) -> float:
    """Return the effective sample size, if there is enough of it.

    Raises:
        DataInvalidError: the other policy does what the log hardly has, so that nothing can be said
            of it; or a propensity is no probability.
    """
    bad = ~((logged.propensities > 0) & (logged.propensities <= 1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataInvalidError(
            f"row {first + 1} has propensity {logged.propensities[first]:g}, wanted above 0 and at "
            "most 1: the probability with which the logged action was chosen",
            field="propensity",
        )
    count = len(logged.rewards)
    found = effective_sample_size(logged.weights)
    least = max(LEAST_ROWS, LEAST_SHARE * count)
    if found < least:
        raise DataInvalidError(
            f"the effective sample size is {found:.0f} of {count} rows, at least {least:.0f} are "
            "needed: this policy does what the log hardly has; collect decisions that explore more",
            field="propensity",
        )
    return found


def row_scores(logged: Logged, estimator: Estimator) -> Numbers:
    """Return one number a row, whose mean is the estimate.

    Those of snips are its linearisation, so that their spread is its delta-method error (Owen 2013,
    Monte Carlo, chapter 9).
    """
    weights = logged.weights
    if estimator is Estimator.IPS:
        return weights * logged.rewards
    if estimator is Estimator.SNIPS:
        value = (weights * logged.rewards).sum() / weights.sum()
        return value + weights * (logged.rewards - value) / weights.mean()
    if logged.predicted is None or logged.value is None:
        raise ValueError(f"{estimator} needs a model of the reward")
    if estimator is Estimator.DM:
        return logged.value
    return logged.value + weights * (logged.rewards - logged.predicted)


def estimate(scores: Numbers, confidence: float = 0.95) -> Estimate:
    """Return the mean of row scores with its normal interval."""
    mean = float(scores.mean())
    error = float(scores.std(ddof=1)) / len(scores) ** 0.5 if len(scores) > 1 else float("inf")
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(mean, mean - reach, mean + reach)


def evaluate(
    logged: Logged, estimators: Sequence[Estimator], confidence: float = 0.95
) -> dict[Estimator, Estimate]:
    """Return the value by each estimator.

    Raises:
        DataInvalidError: see check_overlap.
    """
    check_overlap(logged)
    return {e: estimate(row_scores(logged, e), confidence) for e in estimators}


@dataclass(frozen=True)
class RewardModel:
    """Ridge regression of the reward on the context, for each action."""

    weights: Numbers  # (actions, width + 1)

    @classmethod
    def fit(
        cls, contexts: Numbers, actions: Numbers, rewards: Numbers, count: int, penalty: float = 1.0
    ) -> "RewardModel":
        """Learn from logged decisions; an action's ridge pulls towards the mean of all rewards.

        Args:
            contexts: (rows, width).
            actions: Numbers of actions, from 0, one a row.
            rewards: One a row.
            count: How many actions there are.
            penalty: L2, in rows.
        """
        mean = float(rewards.mean())
        width = contexts.shape[1]
        weights = np.zeros((count, width + 1))
        for action in range(count):
            mine = actions == action
            x = np.column_stack([contexts[mine], np.ones(int(mine.sum()))]).astype(float)
            gram = x.T @ x + penalty * np.eye(width + 1)
            weights[action] = np.linalg.solve(gram, x.T @ (rewards[mine] - mean))
            weights[action, -1] += mean
        return cls(weights)

    def predict(self, contexts: Numbers) -> Numbers:
        """Return the expected reward of every action: (rows, actions)."""
        return contexts @ self.weights[:, :-1].T + self.weights[:, -1]


def logged(
    rewards: Numbers,
    propensities: Numbers,
    actions: Numbers,
    policy: Numbers,
    expected: Numbers | None = None,
) -> Logged:
    """Return logged decisions beside a policy's probabilities of all actions.

    Args:
        rewards: One a row.
        propensities: Of the logged actions.
        actions: Numbers of the logged actions.
        policy: (rows, actions), or (1, actions) of a policy that does not look at the context.
        expected: The model's rewards of all actions, (rows, actions).
    """
    rows = np.arange(len(actions))
    target = policy[rows if len(policy) > 1 else 0, actions]
    if expected is None:
        return Logged(rewards, propensities, target)
    value = (policy * expected).sum(axis=1)
    return Logged(rewards, propensities, target, expected[rows, actions], value)
