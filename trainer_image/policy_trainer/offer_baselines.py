"""What people do without a learned policy of offers; each keeps the same limits as best it can.

- `threshold`: a fixed offer of about 10 % to whoever is likeliest to leave.
- `thompson`: Thompson sampling over the offers (Thompson 1933), for the same customers; what counts
  as a success is that the customer stays.
- `uplift`: two regression trees, of customers who got an offer and of those who did not, learned
  from a period of random offers; the offer goes where it is expected to keep most revenue.

Whom the first two contact is set by a threshold of the risk, whom the last one by the uplift: the
lowest at which budget and contacts stay within their limits on the training customers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_models.offers import Customers, logit

from policy_trainer.offer_environment import OfferEnv

THRESHOLDS = 21  # tried, over the quantiles of the score
TREE_DEPTH, LEAF = 4, 25  # of the uplift trees
FIXED_OFFER = 0.1

Numbers = Any  # numpy.ndarray
# Takes the environment, its observations and a random generator; returns an action a customer.
Chooser = Callable[[OfferEnv, Numbers, np.random.Generator], Numbers]


def play(
    customers: Customers, block: ConstrainedPPO, choose: Chooser, seed: int
) -> dict[str, float]:
    """Return what an episode comes to: nrr, cost, contact_rate and fatigue_over_cap."""
    env = OfferEnv(customers, block)
    observed, _ = env.reset(seed=seed)
    chance = np.random.default_rng([seed, 1])
    sums = dict.fromkeys(("nrr", "cost", "contact_rate", "fatigue_over_cap"), 0.0)
    for _ in range(block.periods):
        actions = choose(env, observed, chance)
        observed, rewards, _, _, info = env.step(actions)
        sums["nrr"] += float(rewards.mean())
        sums["cost"] += float(info["cost"].mean())
        sums["contact_rate"] += float(info["contacts"].mean()) / block.periods
        sums["fatigue_over_cap"] += float(info["over_cap"].mean()) / block.periods
    return sums


def baselines(known: Customers, block: ConstrainedPPO, seed: int) -> dict[str, Chooser]:
    """Return the three, each set so that it keeps the limits on the customers of the training."""
    fixed = 1 + int(np.argmin(np.abs(np.array(block.offers) - FIXED_OFFER)))
    uplift = _uplift(known, block, seed)
    return {
        "threshold": _within_limits(known, block, seed, known.risk, lambda t: _threshold(fixed, t)),
        "thompson": _within_limits(known, block, seed, known.risk, lambda t: _thompson(block, t)),
        "uplift": _within_limits(
            known, block, seed, uplift(known)[0], lambda t: _best_uplift(uplift, t)
        ),
    }


def _within_limits(
    known: Customers,
    block: ConstrainedPPO,
    seed: int,
    score: Numbers,
    chooser: Callable[[float], Chooser],
) -> Chooser:
    """Return the chooser of the lowest threshold that keeps the limits; of none, the highest's."""
    for threshold in np.quantile(score, np.linspace(0, 1, THRESHOLDS)):
        found = play(known, block, chooser(float(threshold)), seed)
        if found["cost"] <= block.budget and found["contact_rate"] <= block.contact_rate:
            return chooser(float(threshold))
    return chooser(float("inf"))


def _risk(observed: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-observed[:, 0].astype(float)))


def _threshold(offer: int, threshold: float) -> Chooser:
    def choose(env: OfferEnv, observed: Numbers, _chance: np.random.Generator) -> Numbers:
        wanted = (_risk(observed) >= threshold) & env.masks()[:, 1]
        return np.where(wanted, offer, 0)

    return choose


def _thompson(block: ConstrainedPPO, threshold: float) -> Chooser:
    count = len(block.offers)
    known: dict[str, Numbers] = {}

    def choose(env: OfferEnv, observed: Numbers, chance: np.random.Generator) -> Numbers:
        if observed[0, 3] == 0:  # an episode begins
            known["stayed"] = known["left"] = np.ones(count)
        else:
            got = [known["actions"] == offer + 1 for offer in range(count)]
            known["stayed"] = known["stayed"] + [(some & env.alive).sum() for some in got]
            known["left"] = known["left"] + [(some & ~env.alive).sum() for some in got]
        drawn = chance.beta(known["stayed"], known["left"], size=(len(observed), count))
        wanted = (_risk(observed) >= threshold) & env.masks()[:, 1] & env.alive
        known["actions"] = np.where(wanted, 1 + drawn.argmax(axis=1), 0)
        return known["actions"]

    return choose


Uplift = Callable[[Customers], tuple[Numbers, Numbers]]


def _uplift(known: Customers, block: ConstrainedPPO, seed: int) -> Uplift:
    """Return what tells customers' best uplift, in revenue, and the offer that brings it."""
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415 - seconds

    env = OfferEnv(known, block)
    env.reset(seed=seed)
    chance = np.random.default_rng([seed, 2])
    actions = chance.integers(len(block.offers) + 1, size=len(known.value))
    env.step(actions)

    def features(some: Customers, discount: Numbers) -> Numbers:
        return np.column_stack([logit(some.risk), logit(some.acceptance), some.value, discount])

    discounts = np.array([0.0, *block.offers])[actions]
    treated = actions > 0
    trees = []
    for group in (treated, ~treated):
        tree = DecisionTreeRegressor(
            max_depth=TREE_DEPTH, min_samples_leaf=LEAF, random_state=seed % 2**32
        )
        trees.append(tree.fit(features(known, discounts)[group], env.alive[group]))

    def best(some: Customers) -> tuple[Numbers, Numbers]:
        count = len(some.value)
        stays = trees[1].predict(features(some, np.zeros(count)))
        gains = [
            some.value
            * (trees[0].predict(features(some, np.full(count, offer))) * (1 - offer) - stays)
            for offer in block.offers
        ]
        found = np.stack(gains, axis=1)
        return found.max(axis=1), 1 + found.argmax(axis=1)

    return best


def _best_uplift(uplift: Uplift, threshold: float) -> Chooser:
    def choose(env: OfferEnv, _observed: Numbers, _chance: np.random.Generator) -> Numbers:
        gain, offer = uplift(env.customers)
        wanted = (gain >= threshold) & env.masks()[:, 1]
        return np.where(wanted, offer, 0)

    return choose
