"""ConstrainedPPO: whom to make which offer, under a budget and a limit of contacts.

PPO on the Lagrangian, see offer_learning.py; what may never happen, a contact too many, is masked
instead. The customers are simulated, see offers.py.
"""

from functools import partial

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_models.classifier import Classifier
from policy_models.offers import ACCEPTANCE, RISK, Customers, OfferPolicy, Rules, Seen
from scipy.stats import entropy

from policy_trainer import checks, data, offer_baselines, references
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.figures import Cell, Chart, ChartKind, Series, Table, bars, curves
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.loop import Loop, load_state, save_state
from policy_trainer.offer_environment import OfferEnv
from policy_trainer.offer_learning import Learner, sample
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

ENTROPY_BINS = 20
TITLES = {
    "nrr": "Net revenue retention",
    "cost": "Cost, as a share of revenue",
    "contact_rate": "Contacts, a customer and period",
    "violation": "Excess over the worse limit",
    "budget_multiplier": "Multiplier of the budget",
    "contact_multiplier": "Multiplier of the contacts",
    "entropy": "Entropy of the actions",
}


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
    loaded = data.load_all(run, checks.of(run))
    models = {role: _model(run, role) for role in (RISK, ACCEPTANCE)}
    known = Customers.of(loaded["train"].rows, block.value, models)
    parts = {
        name: known
        if name == "train"
        else Customers.of(part.rows, block.value, models, known.scale)
        for name, part in loaded.items()
    }
    learner = Learner(block, run.seed)
    loop = Loop(run, process, stop, block.iterations)
    if (folder := loop.resume()) is not None:
        learner.load(load_state(folder, process))
    for iteration in loop.steps():
        metrics = learner.learn(known, (run.seed, iteration))
        loop.end_step(metrics, lambda folder: save_state(folder, process, learner.state()))
    fitted = loop.fitted()
    rules = Rules(block.periods, block.fatigue.max_contacts)
    means = learner.means(known, (run.seed, block.iterations + 1))
    names = ("no contact", *(f"offer {offer:g}" for offer in block.offers))
    policy = OfferPolicy(
        learner.layers(), models, names, Seen(block.value, known.scale, rules, means)
    )
    about = {
        "algorithm": "ConstrainedPPO",
        "settings": block.to_wire(),
        "multipliers": dict(zip(("budget", "contacts"), learner.multipliers, strict=True)),
    }
    evaluated = Evaluated([], Kind.OFFER_POLICY, lambda folder: policy.write(folder, about))
    evaluated.charts.extend(curves(fitted.history, TITLES))
    held_out = parts.get("test") or parts.get("validation") or known
    _evaluate(run, block, evaluated, policy, (known, held_out))
    return Trained(fitted, [part.used for part in loaded.values()], evaluated)


def _model(run: RunConfig, role: str) -> Classifier:
    artifact = run.reference(role)
    if artifact is None:
        raise ConfigInvalidError("name a classifier", field=f"referenceModels.{role}")
    field = f"referenceModels.{role}"
    return Classifier.read(references.of_kind(artifact, Kind.CLASSIFIER, field))


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
    entropies: list[Numbers] = []

    def choose(env: OfferEnv, observed: Numbers, chance: np.random.Generator) -> Numbers:
        chances = policy.probabilities(observed, env.masks())
        actions = sample(chances, chance)
        np.add.at(counts, actions[env.alive], 1)
        entropies.append(entropy(chances[env.alive], axis=1))
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
    evaluated.charts.append(_entropies(np.concatenate(entropies), len(counts)))
    columns = ["policy", "metric", "mean", "low", "high"]
    evaluated.tables.append(Table("policies", "The policy beside the baselines", columns, rows))


def _entropies(found: Numbers, actions: int) -> Chart:
    """Show how sure the policy is: 0 where one action is certain, at most log(actions)."""
    heights, edges = np.histogram(found, bins=ENTROPY_BINS, range=(0, float(np.log(actions))))
    shares = Series("policy", edges[:-1].tolist(), (heights / heights.sum()).tolist())
    title, unit = "How sure the policy is", "entropy of the actions, nats"
    return Chart("entropy_histogram", title, unit, "share", [shares], ChartKind.HISTOGRAM)


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
