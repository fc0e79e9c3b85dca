"""Learning whom to make which offer: PPO on the Lagrangian, in torch.

The reward less a multiplier for each constraint (Ray, Achiam and Amodei 2019), which grows while
the constraint is broken and falls while it is kept, until it stays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_models.layers import Layers, Numbers
from policy_models.offers import ACTIVATION, OBSERVED, Customers, chances

from policy_trainer import engine, ppo
from policy_trainer.networks import arrays, network
from policy_trainer.offer_environment import OfferEnv

MARGIN = 0.03  # below the limits: what is learned on some customers shall hold for others
MOST = 100.0  # a multiplier
SAMPLE, ORDER = 1, 2  # what a seed is for


@dataclass(frozen=True)
class Episodes:
    """An iteration's simulation: tensors (customers, periods, …)."""

    observed: torch.Tensor
    allowed: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    costs: torch.Tensor
    contacts: torch.Tensor
    stays: torch.Tensor  # probability that the customer goes on after the period

    @property
    def begun(self) -> torch.Tensor:
        """Probability that the customer begins the period: how much it counts."""
        before = torch.cat([torch.ones_like(self.stays[:, :1]), self.stays[:, :-1]], dim=1)
        return before.cumprod(dim=1)


class Learner:
    """The policy, its value function, and the two multipliers."""

    def __init__(self, block: ConstrainedPPO, seed: int) -> None:
        self._block = block
        engine.seed_all(seed)
        inputs = [len(OBSERVED), *block.hidden]
        self._policy = network([*inputs, len(block.offers) + 1], ACTIVATION)
        self._value = network([*inputs, 1], ACTIVATION)
        learned = [*self._policy.parameters(), *self._value.parameters()]
        self._optimizer = torch.optim.Adam(learned, lr=block.learning_rate)
        self.multipliers = [0.0, 0.0]

    def learn(self, customers: Customers, seed: tuple[int, ...]) -> dict[str, float]:
        """Simulate, and learn from what came of it."""
        block = self._block
        episodes = self._simulate(customers, seed)
        mask = episodes.begun
        budget, contact = self.multipliers
        scale = 1 + budget + contact  # keeps the size of the advantages as the multipliers grow
        rewards = episodes.rewards - budget * episodes.costs - contact * episodes.contacts
        with torch.no_grad():
            logs, _ = self._logs(episodes)
            values = self._value(episodes.observed).squeeze(-1)
        gains = advantages(rewards / scale, values, episodes.stays, block)
        centre = ppo.mean(gains, mask)
        spread = ppo.mean((gains - centre) ** 2, mask).sqrt()
        before = ppo.Before(mask, logs, values, (gains - centre) / (spread + 1e-8), gains + values)
        chance = np.random.default_rng([*seed, ORDER])
        entropies = []
        for _ in range(block.epochs):
            order = torch.from_numpy(chance.permutation(len(mask)))
            batches = order.split(block.mini_batch_size)
            entropies += [self._step(episodes, before, rows) for rows in batches]
        cost = float((episodes.costs * mask).sum(dim=1).mean())
        rate = float((episodes.contacts * mask).mean())
        self._adapt(cost, rate)
        excess = max(cost / block.budget, rate / block.contact_rate) - 1
        return {
            "nrr": float((episodes.rewards * mask).sum(dim=1).mean()),
            "cost": cost,
            "contact_rate": rate,
            "violation": max(0.0, excess),
            "budget_multiplier": self.multipliers[0],
            "contact_multiplier": self.multipliers[1],
            "entropy": float(np.mean(entropies)),
        }

    def _adapt(self, cost: float, rate: float) -> None:
        limits = (self._block.budget, self._block.contact_rate)
        for place, (found, limit) in enumerate(zip((cost, rate), limits, strict=True)):
            excess = found / (limit * (1 - MARGIN)) - 1
            raised = self.multipliers[place] + self._block.multiplier_rate * excess
            self.multipliers[place] = min(MOST, max(0.0, raised))

    def _simulate(self, customers: Customers, seed: tuple[int, ...]) -> Episodes:
        block = self._block
        chance = np.random.default_rng([*seed, SAMPLE])
        count = len(customers.value)
        drawn = chance.choice(count, size=block.customers, replace=block.customers > count)
        env = OfferEnv(customers.part(drawn), block, expected=True)
        observed, _ = env.reset(seed=int(chance.integers(2**31)))
        layers = self.layers()
        columns: dict[str, list[Numbers]] = {name: [] for name in Episodes.__dataclass_fields__}
        for _ in range(block.periods):
            allowed = env.masks()
            actions = sample(chances(layers, observed, allowed), chance)
            after, rewards, _, _, info = env.step(actions)
            told = [info[name] for name in ("cost", "contacts", "stays")]
            row = (observed, allowed, actions, rewards, *told)
            for name, numbers in zip(columns, row, strict=True):
                columns[name].append(numbers)
            observed = after
        made = {name: torch.from_numpy(np.stack(rows, axis=1)) for name, rows in columns.items()}
        floats = {n: made[n].float() for n in ("rewards", "costs", "contacts", "stays")}
        return Episodes(**{**made, **floats})

    def _logs(self, some: Episodes) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the actions' log-probabilities, and the entropies."""
        found = self._policy(some.observed).masked_fill(~some.allowed, -torch.inf)
        drawn = torch.distributions.Categorical(logits=found)
        return drawn.log_prob(some.actions), _entropy(drawn.logits)

    def _step(self, episodes: Episodes, before: ppo.Before, rows: torch.Tensor) -> float:
        names = Episodes.__dataclass_fields__
        some = Episodes(**{name: getattr(episodes, name)[rows] for name in names})
        logs, entropies = self._logs(some)
        values = self._value(some.observed).squeeze(-1)
        policy, value, _ = ppo.losses(logs, values, before.rows(rows), self._block.clip)
        entropy = ppo.mean(entropies, before.mask[rows])
        loss = policy + 0.5 * value - self._block.entropy * entropy
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(entropy.item())

    def means(self, customers: Customers, seed: tuple[int, ...]) -> tuple[float, ...]:
        """Return what the policy sees of customers on average, over an iteration's periods."""
        observed = self._simulate(customers, seed).observed
        return tuple(observed.mean(dim=(0, 1)).tolist())

    def layers(self) -> Layers:
        """Return the policy's layers as arrays."""
        return arrays(self._policy.state_dict(), ACTIVATION)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "policy": self._policy.state_dict(),
            "value": self._value.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "multipliers": self.multipliers,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._policy.load_state_dict(state["policy"])
        self._value.load_state_dict(state["value"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.multipliers = list(state["multipliers"])


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, stays: torch.Tensor, block: ConstrainedPPO
) -> torch.Tensor:
    """Return generalized advantage estimates where leaving is a discount; (customers, periods)."""
    found = torch.zeros_like(rewards)
    later = torch.zeros(len(rewards))
    following = torch.zeros(len(rewards))
    for period in reversed(range(rewards.shape[1])):
        going_on = block.gamma * stays[:, period]
        error = rewards[:, period] + going_on * following - values[:, period]
        later = error + going_on * block.gae_lambda * later
        following = values[:, period]
        found[:, period] = later
    return found


def _entropy(logs: torch.Tensor) -> torch.Tensor:
    likely = logs.exp()
    return -(likely * logs.masked_fill(likely == 0, 0)).sum(dim=-1)


def sample(probabilities: Numbers, chance: np.random.Generator) -> Numbers:
    """Return an action a customer, drawn by its probabilities."""
    below = probabilities.cumsum(axis=1) < chance.random((len(probabilities), 1))
    return np.minimum(below.sum(axis=1), probabilities.shape[1] - 1)
