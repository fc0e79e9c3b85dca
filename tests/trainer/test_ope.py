"""Off-policy estimates: right on average, their intervals cover, and too little overlap is said."""

import csv
import gzip
from collections import Counter

import numpy as np
import pytest
import real_data
from hypothesis import given
from hypothesis import strategies as st
from policy_trainer import ope
from policy_trainer.errors import DataInvalidError
from policy_trainer.ope import Estimator

pytestmark = pytest.mark.trainer

ACTIONS = 4


def log(seed, count=2000):
    """Decisions of a policy that explores, the other policy's probabilities, and its true value."""
    generator = np.random.default_rng(seed)
    contexts = generator.normal(size=(count, 2))
    truth = 0.5 + 0.2 * contexts @ np.array([[1, 0, -1, 0], [0, 1, 0, -1]])
    logging = np.exp(0.5 * truth)
    logging /= logging.sum(axis=1, keepdims=True)
    actions = (logging.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)
    actions = np.minimum(actions, ACTIONS - 1)
    rewards = truth[np.arange(count), actions] + 0.2 * generator.normal(size=count)
    policy = np.exp(3 * truth)
    policy /= policy.sum(axis=1, keepdims=True)
    model = ope.RewardModel.fit(contexts[::2], actions[::2], rewards[::2], ACTIONS)
    part = slice(1, None, 2)
    propensities = logging[np.arange(count), actions]
    made = ope.logged(
        rewards[part],
        propensities[part],
        actions[part],
        policy[part],
        model.predict(contexts[part]),
    )
    return made, float((policy * truth).sum(axis=1).mean())


def test_each_estimator_is_right_on_average_and_its_interval_covers():
    runs = [log(seed) for seed in range(300)]
    for estimator in Estimator:
        found = [ope.estimate(ope.row_scores(made, estimator)) for made, _ in runs]
        errors = [e.value - truth for e, (_, truth) in zip(found, runs, strict=True)]
        assert abs(np.mean(errors)) < 4 * np.std(errors) / len(runs) ** 0.5 + 0.01, estimator
        covered = np.mean([e.low <= t <= e.high for e, (_, t) in zip(found, runs, strict=True)])
        if estimator is not Estimator.DM:  # its interval knows nothing of the model's own error
            assert covered > 0.9, estimator


def test_doubly_robust_is_closer_than_ips():
    runs = [log(seed) for seed in range(100)]
    spread = {
        e: np.std([ope.row_scores(made, e).mean() - truth for made, truth in runs])
        for e in (Estimator.IPS, Estimator.DR)
    }
    assert spread[Estimator.DR] < 0.8 * spread[Estimator.IPS]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.05, 1)), min_size=60, max_size=90))
def test_the_logging_policy_itself_is_worth_what_it_earned(rows):
    rewards, propensities = (np.array(column) for column in zip(*rows, strict=True))
    made = ope.Logged(rewards, propensities, propensities, rewards * 0, rewards * 0)
    for estimator in (Estimator.IPS, Estimator.SNIPS, Estimator.DR):
        value = ope.row_scores(made, estimator).mean()
        assert value == pytest.approx(rewards.mean(), abs=1e-9)
    assert ope.effective_sample_size(made.weights) == pytest.approx(len(rows))


@pytest.mark.parametrize(
    ("propensity", "target", "message"),
    [
        (0.0, 0.5, "row 1 has propensity 0, wanted above 0"),
        (1.5, 0.5, "row 1 has propensity 1.5"),
        (float("nan"), 0.5, "row 1 has propensity nan"),
        (0.5, 0.0, "effective sample size is 0 of 200 rows, at least 50 are needed"),
    ],
)
def test_what_says_nothing_is_refused(propensity, target, message):
    made = ope.Logged(np.ones(200), np.full(200, propensity), np.full(200, target))
    with pytest.raises(DataInvalidError, match=message):
        ope.evaluate(made, [Estimator.IPS])


def test_one_row_that_weighs_all_is_too_little_overlap():
    target = np.array([1.0] + [1e-6] * 199)
    with pytest.raises(DataInvalidError, match="effective sample size is 1 of 200"):
        ope.check_overlap(ope.Logged(np.ones(200), np.full(200, 0.1), target))


def bandit(name):
    with gzip.open(real_data.FOLDER / "open-bandit-men" / f"{name}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    rewards, propensities = (
        np.array([float(row[column]) for row in rows]) for column in ("click", "propensity_score")
    )
    actions, positions = (
        np.array([int(row[column]) for row in rows]) for column in ("item_id", "position")
    )
    return rewards, propensities, actions, positions


@real_data.needed
@pytest.mark.parametrize(("source", "target"), [("bts", "random"), ("random", "bts")])
def test_open_bandit_data_in_both_directions(source, target):
    rewards, propensities, actions, positions = bandit(source)
    theirs, _, their_actions, their_positions = bandit(target)
    items = 1 + max(actions.max(), their_actions.max())
    policy = np.full((len(actions), items), 1 / items)
    if target == "bts":  # its action frequencies by position, the nearest there is
        seen = Counter(zip(their_positions, their_actions, strict=True))
        table = {p: np.array([seen[p, a] for a in range(items)], float) for p in (1, 2, 3)}
        policy = np.stack([table[p] / table[p].sum() for p in positions])
    places = np.eye(3)[positions - 1]
    half = np.arange(len(actions)) % 2 == 0
    model = ope.RewardModel.fit(places[half], actions[half], rewards[half], items, penalty=50)
    made = ope.logged(rewards, propensities, actions, policy, model.predict(places))
    truth = ope.estimate(theirs)
    for estimator, found in ope.evaluate(made, list(Estimator)).items():
        if estimator is Estimator.DM:  # its interval knows nothing of the model's own error
            assert found.value == pytest.approx(truth.value, rel=0.5)
            continue
        apart = abs(found.value - truth.value)
        errors = [(e.high - e.low) / 2 for e in (found, truth)]
        assert apart < float(np.hypot(*errors)) + 1e-9, (estimator, found, truth)
