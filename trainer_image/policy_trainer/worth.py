"""What a policy of actions is worth on held-out decisions, beside baselines and earlier versions.

The log shows only what was chosen, so the worth of other choices is estimated off-policy (ope.py),
doubly robust: by a model of the reward and by the propensities, which are those of the log or,
where it has none, those of a logistic model of what was chosen.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from policy_api.base import Metric
from policy_api.rules import criteria
from policy_models.baselines import Record, best, frequency
from policy_models.baselines import success as often

from policy_trainer import ope
from policy_trainer.decisions import Decisions
from policy_trainer.errors import DataInvalidError
from policy_trainer.figures import Chart, Table, bars
from policy_trainer.intervals import Intervals, short
from policy_trainer.ope import Estimator, RewardModel

LEAST_PROPENSITY = 0.01  # of a model of what was chosen; a smaller one would be a guess

Numbers = Any  # numpy.ndarray

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worth:
    """What policies did on the same held-out decisions: numbers a row."""

    agrees: Numbers
    """Where a decision succeeded: whether the policy would have taken it, from 0 to 1."""
    rewards: Numbers | None
    """Doubly robust rewards; None where the log says too little of this policy."""
    successes: Numbers | None
    """Doubly robust successes, likewise."""
    regret: Numbers
    """How much more the best action is expected to earn."""
    sample_size: float
    """Effective, in rows."""


class Judge:
    """Judges policies on held-out decisions.

    Args:
        known: The training data, from which models of reward and choice are learned.
        held_out: What policies are judged on.
        count: How many actions there are.
        success: A decision has succeeded when its reward is above this.
    """

    def __init__(self, known: Decisions, held_out: Decisions, count: int, success: float) -> None:
        self._held_out = held_out
        self._succeeded = (held_out.rewards > success).astype(float)
        succeeded = (known.rewards > success).astype(float)
        fit = RewardModel.fit
        self._expected, self._likely = (
            fit(known.states, known.actions, values, count).predict(held_out.states)
            for values in (known.rewards, succeeded)
        )
        self._propensities = (
            held_out.propensities
            if held_out.propensities is not None
            else _chosen(known, held_out, count)
        )

    def judge(self, policy: Numbers, name: str) -> Worth:
        """Return what a policy is worth.

        Args:
            policy: Its probabilities of all actions, (rows, actions).
            name: For the log, when little can be said of it.
        """
        actions = self._held_out.actions
        rewards, successes = (
            ope.logged(values, self._propensities, actions, policy, expected)
            for values, expected in (
                (self._held_out.rewards, self._expected),
                (self._succeeded, self._likely),
            )
        )
        agrees = rewards.target[self._succeeded > 0]
        regret = self._expected.max(axis=1) - (policy * self._expected).sum(axis=1)
        try:
            size = ope.check_overlap(rewards)
        except DataInvalidError as error:
            log.warning("%s: %s", name, error)
            return Worth(agrees, None, None, regret, ope.effective_sample_size(rewards.weights))
        earned, won = (ope.row_scores(made, Estimator.DR) for made in (rewards, successes))
        return Worth(agrees, earned, won, regret, size)


def metrics(
    intervals: Intervals,
    policy: Worth,
    baselines: Mapping[str, Worth],
    others: Mapping[str, Worth],
) -> list[Metric]:
    """Return the metrics of a policy, of the baselines, and of its differences to them.

    A value that the log cannot tell is left out: a criterion on it is then not met.
    """
    found: list[Metric] = [
        Metric(name="effective_sample_size", value=short(policy.sample_size)),
        intervals.mean("regret", policy.regret),
    ]
    for metric in ("accuracy", "success_rate", "mean_reward"):
        mine = _of(policy, metric)
        if mine is None or not len(mine):
            continue
        found.append(intervals.mean(metric, mine))
        known = {
            name: rows for name, b in baselines.items() if (rows := _of(b, metric)) is not None
        }
        found += [intervals.mean(f"{metric}_baseline_{n}", rows) for n, rows in known.items()]
        if known:
            best = max(known.values(), key=lambda rows: float(rows.mean()))
            named = criteria.versus(metric, criteria.BEST_BASELINE)
            found.append(intervals.mean(named, mine - best))
        for name, other in others.items():
            if (theirs := _of(other, metric)) is not None:
                found.append(intervals.mean(criteria.versus(metric, name), mine - theirs))
    return found


def _of(worth: Worth, metric: str) -> Numbers | None:
    by_name = {
        "accuracy": worth.agrees,
        "success_rate": worth.successes,
        "mean_reward": worth.rewards,
    }
    return by_name[metric]


def pictures(intervals: Intervals, judged: Mapping[str, Worth]) -> tuple[list[Chart], list[Table]]:
    """Return mean rewards and success rates as bars, and all in a table."""
    rows: list[list[Any]] = []
    bars_of: dict[str, list[tuple[str, float, float, float]]] = {"mean reward": [], "success": []}
    for name, worth in judged.items():
        row: list[Any] = [name, float(worth.agrees.mean()) if len(worth.agrees) else None]
        for label, numbers in (("mean reward", worth.rewards), ("success", worth.successes)):
            if numbers is None:
                row.append(None)
                continue
            made = intervals.mean(label, numbers)
            row.append(made.value)
            low, high = (made.value if end is None else end for end in (made.low, made.high))
            bars_of[label].append((name, made.value, low, high))
        rows.append(row)
    charts = [
        bars(label.replace(" ", "_"), title, label, bars_of[label])
        for label, title in (("mean reward", "Mean reward"), ("success", "Success rate"))
        if bars_of[label]
    ]
    columns = ["policy", "accuracy", "mean reward", "success rate"]
    return charts, [Table("policies", "The policy beside the baselines", columns, rows)]


def _chosen(known: Decisions, held_out: Decisions, count: int) -> Numbers:
    """Return how likely each logged action was, by a logistic model of what was chosen."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - seconds

    seen = np.unique(known.actions)
    found = np.zeros((len(held_out.actions), count))
    if len(seen) == 1:
        found[:, seen[0]] = 1
    else:
        model = LogisticRegression(max_iter=1000).fit(known.states, known.actions)
        found[:, model.classes_] = model.predict_proba(held_out.states)
    chosen = found[np.arange(len(held_out.actions)), held_out.actions]
    return np.clip(chosen, LEAST_PROPENSITY, 1)


def baselines(known: Decisions, count: int, success: float, rows: int) -> dict[str, Numbers]:
    """Return the probabilities of actions, (rows, actions), of policies that learn next to nothing.

    `random` takes any action, `most_frequent` what was chosen most, `highest_success` what
    succeeded most often: the strategies of a deployment's baseline.
    """
    tries = np.bincount(known.actions, minlength=count)
    wins = np.bincount(known.actions, weights=known.rewards > success, minlength=count)
    records = [Record(int(t), int(w)) for t, w in zip(tries, wins, strict=True)]
    made = {"random": np.full((rows, count), 1 / count)}
    for name, score in (("most_frequent", frequency), ("highest_success", often)):
        made[name] = always(np.full(rows, best(records, score)), count)
    return made


def always(actions: Numbers, count: int) -> Numbers:
    """Return the probabilities of a policy that takes these actions, one a row, for certain."""
    return np.eye(count)[actions]
