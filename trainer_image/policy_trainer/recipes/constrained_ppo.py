"""ConstrainedPPO: whom to make which offer, under a budget and a limit of contacts.

PPO on the Lagrangian (Ray, Achiam and Amodei 2019): the reward less a multiplier for each
constraint, which grows while the constraint is broken and falls while it is kept, until it stays.
What may never happen, a contact too many, is masked instead. The customers are simulated, see
offers.py.
"""

import logging
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from policy_api import criteria
from policy_api.artifact import Kind
from policy_api.base import Metric
from policy_api.run import RunConfig
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from torch import nn

from policy_trainer import data, engine, offer_baselines, ppo, references
from policy_trainer.classifier import Classifier
from policy_trainer.data import Place, Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.figures import Cell, Chart, ChartKind, Series, Table, bars, curves
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.loop import Loop, load_state, save_state
from policy_trainer.offers import ACCEPTANCE, OBSERVED, RISK, Customers, OfferEnv, OfferPolicy
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

TITLES = {
    "nrr": "Net revenue retention",
    "cost": "Cost, as a share of revenue",
    "contact_rate": "Contacts, a customer and period",
    "budget_multiplier": "Multiplier of the budget",
    "contact_multiplier": "Multiplier of the contacts",
    "entropy": "Entropy of the actions",
}
MARGIN = 0.03  # below the limits: what is learned on some customers shall hold for others
MOST = 100.0  # a multiplier
SAMPLE, ORDER = 1, 2  # what a seed is for

log = logging.getLogger(__name__)


def train(run: RunConfig, block: ConstrainedPPO, process: Process, stop: StopRequest) -> Trained:
    """Train and evaluate; one step of the run is an iteration.

    Metrics, over `evaluationSeeds` simulations of the customers of `test`, else of `validation`,
    else of `train`: `nrr` (net revenue retention: revenue kept, less discounts and contacts, over
    revenue at the start), `cost` (discounts and contacts, over the same), `contact_rate`,
    `fatigue_over_cap` (share of customers and periods with a contact too many),
    `constraint_violation` (by how much of itself the worse limit is exceeded on average);
    `nrr_baseline_<name>`, `cost_baseline_<name>`, `nrr_vs_best_baseline` and, relative to the
    baseline of the highest NRR, `nrr_gain_vs_best_baseline` and `cost_gain_vs_best_baseline`.
    """
    loaded = data.load_all(run, partial(_check, block))
    models = {role: _model(run, role) for role in (RISK, ACCEPTANCE)}
    parts = {
        name: Customers.of(part.rows, block.value, models[RISK], models[ACCEPTANCE])
        for name, part in loaded.items()
    }
    learner = Learner(block, run.seed)
    loop = Loop(run, process, stop, block.iterations)
    if (folder := loop.resume()) is not None:
        learner.load(load_state(folder, process))
    for iteration in loop.steps():
        metrics = learner.learn(parts["train"], (run.seed, iteration))
        loop.end_step(metrics, lambda folder: save_state(folder, process, learner.state()))
    fitted = loop.fitted()
    policy = OfferPolicy(learner.layers(), models)
    about = {
        "algorithm": "ConstrainedPPO",
        "settings": block.to_wire(),
        "actions": ["no contact", *(f"offer {offer:g}" for offer in block.offers)],
        "multipliers": dict(zip(("budget", "contacts"), learner.multipliers, strict=True)),
    }
    evaluated = Evaluated([], Kind.OFFER_POLICY, lambda folder: policy.write(folder, about))
    evaluated.charts.extend(curves(fitted.history, TITLES))
    held_out = parts.get("test") or parts.get("validation") or parts["train"]
    _evaluate(run, block, evaluated, policy, (parts["train"], held_out))
    return Trained(fitted, [part.used for part in loaded.values()], evaluated)


def _check(block: ConstrainedPPO, row: Row, place: Place) -> Row:
    if data.number(row, block.value, place) <= 0:
        raise place.error(f"field {block.value!r} is a customer's revenue, wanted above 0")
    return row


def _model(run: RunConfig, role: str) -> Classifier:
    artifact = run.reference(role)
    if artifact is None:
        raise ConfigInvalidError("name a classifier", field=f"referenceModels.{role}")
    field = f"referenceModels.{role}"
    return Classifier.read(references.of_kind(artifact, Kind.CLASSIFIER, field))


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
        self._policy = _network(block, len(block.offers) + 1)
        self._value = _network(block, 1)
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
        return {
            "nrr": float((episodes.rewards * mask).sum(dim=1).mean()),
            "cost": cost,
            "contact_rate": rate,
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
        policy = OfferPolicy(self.layers(), {})
        columns: dict[str, list[Numbers]] = {name: [] for name in Episodes.__dataclass_fields__}
        for _ in range(block.periods):
            allowed = env.masks()
            actions = sample(policy.probabilities(observed, allowed), chance)
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
        chances = torch.distributions.Categorical(logits=found)
        return chances.log_prob(some.actions), _entropy(chances.logits)

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

    def layers(self) -> tuple[tuple[Numbers, Numbers], ...]:
        """Return the policy's layers as arrays."""
        linear = [layer for layer in self._policy if isinstance(layer, nn.Linear)]
        return tuple((x.weight.detach().numpy(), x.bias.detach().numpy()) for x in linear)

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


def _network(block: ConstrainedPPO, outputs: int) -> nn.Sequential:
    layers: list[Any] = []
    for number, (before, after) in enumerate(pairwise([len(OBSERVED), *block.hidden, outputs])):
        layers += [nn.Tanh()] if number else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


def _entropy(logs: torch.Tensor) -> torch.Tensor:
    chances = logs.exp()
    return -(chances * logs.masked_fill(chances == 0, 0)).sum(dim=-1)


def sample(probabilities: Numbers, chance: np.random.Generator) -> Numbers:
    """Return an action a customer, drawn by its probabilities."""
    below = probabilities.cumsum(axis=1) < chance.random((len(probabilities), 1))
    return np.minimum(below.sum(axis=1), probabilities.shape[1] - 1)


def _evaluate(
    run: RunConfig,
    block: ConstrainedPPO,
    evaluated: Evaluated,
    policy: OfferPolicy,
    customers: tuple[Customers, Customers],
) -> None:
    """Play policy and baselines on the same customers, with the same luck, and compare."""
    known, held_out = customers
    counts = np.zeros(len(block.offers) + 1)

    def choose(env: OfferEnv, observed: Numbers, chance: np.random.Generator) -> Numbers:
        actions = sample(policy.probabilities(observed, env.masks()), chance)
        np.add.at(counts, actions[env.alive], 1)
        return actions

    choosers = {"policy": choose, **offer_baselines.baselines(known, block, run.seed)}
    seeds = [run.seed + number for number in range(block.evaluation_seeds)]
    played = {
        name: _columns([offer_baselines.play(held_out, block, chooser, s) for s in seeds])
        for name, chooser in choosers.items()
    }
    mine = played.pop("policy")
    intervals = Intervals.of(run)
    evaluated.metrics.extend(_metrics(intervals, block, mine, played))
    rows: list[list[Cell]] = []
    for metric, title in (
        ("nrr", "NRR beside the baselines"),
        ("cost", "Cost beside the baselines"),
    ):
        shown = []
        for name, found in {"policy": mine, **played}.items():
            made = intervals.mean(metric, found[metric])
            low, high = (made.value if end is None else end for end in (made.low, made.high))
            shown.append((name, made.value, low, high))
            rows.append([name, metric, made.value, low, high])
        evaluated.charts.append(bars(f"{metric}_bars", title, metric, shown))
    names = ["no contact", *(f"{100 * offer:g} %" for offer in block.offers)]
    shares = Series("policy", names, (counts / counts.sum()).tolist())
    evaluated.charts.append(
        Chart("actions", "What is offered", "", "share", [shares], ChartKind.BAR)
    )
    columns = ["policy", "metric", "mean", "low", "high"]
    evaluated.tables.append(Table("policies", "The policy beside the baselines", columns, rows))


def _columns(episodes: list[dict[str, float]]) -> dict[str, Numbers]:
    return {name: np.array([episode[name] for episode in episodes]) for name in episodes[0]}


def _metrics(
    intervals: Intervals,
    block: ConstrainedPPO,
    mine: dict[str, Numbers],
    others: dict[str, dict[str, Numbers]],
) -> list[Metric]:
    if not np.isfinite(mine["nrr"]).all():
        raise DataInvalidError("a customer's revenue is not finite", field="data[train]")
    excess = max(
        float(mine["cost"].mean()) / block.budget - 1,
        float(mine["contact_rate"].mean()) / block.contact_rate - 1,
    )
    metrics = [intervals.mean(name, numbers) for name, numbers in mine.items()]
    metrics.append(Metric(name="constraint_violation", value=max(0.0, excess)))
    for metric in ("nrr", "cost"):
        metrics += [
            intervals.mean(f"{metric}_baseline_{name}", found[metric])
            for name, found in others.items()
        ]
    best = max(others.values(), key=lambda found: float(found["nrr"].mean()))
    versus = partial(criteria.versus, against=criteria.BEST_BASELINE)
    metrics.append(intervals.mean(versus("nrr"), mine["nrr"] - best["nrr"]))
    metrics += [
        intervals.mean(versus(f"{metric}_gain"), mine[metric] / best[metric].mean() - 1)
        for metric in ("nrr", "cost")
        if best[metric].mean() > 0
    ]
    return metrics
