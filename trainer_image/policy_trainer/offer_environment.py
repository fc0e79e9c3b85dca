"""A simulation of customers over some periods, as a gymnasium vector environment.

In each period each customer is contacted with an offer or not, accepts it or not, and stays or
leaves. How likely both are comes from two calibrated classifiers.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_models.layers import Numbers
from policy_models.offers import OBSERVED, Customers, Rules, logit, observe


class OfferEnv(gymnasium.vector.VectorEnv):  # type: ignore[misc]  # gymnasium is not looked into
    """All customers at once, each an environment of its own.

    Observations are float32 (customers, 6), see OBSERVED; action 0 is no contact, the others are
    the offers in their order. The reward is the net revenue of a period as a share of all
    customers' mean revenue of an episode, so a customer's rewards add up to its part of the NRR.

    Args:
        customers: Who.
        block: The rules of the simulation.
        expected: For learning: nobody leaves, and rewards, costs and contacts are what is expected
            of a period that a customer begins, instead of one sample; `info["stays"]` is the
            probability that it goes on. The mean is the same, the spread a fraction.
    """

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}  # noqa: RUF012 - theirs

    def __init__(
        self, customers: Customers, block: ConstrainedPPO, *, expected: bool = False
    ) -> None:
        self.num_envs = len(customers.value)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (len(OBSERVED),), np.float32)
        self.single_action_space = spaces.Discrete(len(block.offers) + 1)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, self.num_envs)
        self.action_space = batch(self.single_action_space, self.num_envs)
        self.customers, self._block, self._expected = customers, block, expected
        self._discounts = np.array([0.0, *block.offers])
        self._averts = np.array([0.0, *block.averts])
        self._hazard = 1 - (1 - customers.risk) ** (1 / block.periods)
        self._odds = logit(customers.acceptance)
        self._unit = float(customers.value.mean()) * block.periods

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Begin an episode; see gymnasium."""
        super().reset(seed=seed, options=options)
        self._chance = np.random.default_rng(seed)
        self.alive = np.ones(self.num_envs, dtype=bool)
        self._recent = np.zeros((self.num_envs, self._block.fatigue.window), dtype=int)
        self._spent = np.zeros(self.num_envs)
        self._period = 0
        return self._observed(), {}

    def masks(self) -> Numbers:
        """Return which actions each customer may get: (customers, actions)."""
        free = self._recent.sum(axis=1) < self._block.fatigue.max_contacts
        allowed = np.repeat(free[:, None], len(self._discounts), axis=1)
        allowed[:, 0] = True
        return allowed

    def step(self, actions: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers, dict[str, Any]]:
        """Let a period pass; see gymnasium.

        The info has `cost` (as the reward, a share of the revenue), `contacts`, `over_cap` and
        `stays`, a number a customer.
        """
        value, was = self.customers.value, self.alive
        contacted = (actions > 0) & was
        discount = self._discounts[actions]
        odds = self._odds + self._block.sensitivity * discount
        accepts = contacted / (1 + np.exp(-odds))
        if not self._expected:
            accepts = (self._chance.random(self.num_envs) < accepts).astype(float)
        stays = 1 - self._hazard * (1 - self._averts[actions] * accepts)
        kept = value * stays * was
        given = value * stays * discount * accepts
        if not self._expected:
            self.alive = was & (self._chance.random(self.num_envs) < stays)
            kept, given = value * self.alive, value * self.alive * discount * accepts
        spent = given + self._block.contact_cost * contacted
        self._recent = np.column_stack([self._recent[:, 1:], contacted])
        self._spent += spent
        self._period += 1
        over = self._recent.sum(axis=1) > self._block.fatigue.max_contacts
        info = {"cost": spent / self._unit, "contacts": contacted.astype(float), "over_cap": over}
        info["stays"] = stays
        ended = np.full(self.num_envs, self._period == self._block.periods)
        return self._observed(), (kept - spent) / self._unit, ~self.alive, ended, info

    def _observed(self) -> Numbers:
        rules = Rules(self._block.periods, self._block.fatigue.max_contacts)
        period = np.full(self.num_envs, self._period)
        return observe(self.customers, rules, period, self._recent.sum(axis=1), self._spent)
