"""PPO: sample answers, reinforce what earned more than was expected (our own, in torch).

Schulman et al. 2017 on texts as in Ziegler et al. 2019: a value head on the policy's last layer,
the reward at an answer's last token, and a penalty for leaving the start whose coefficient follows
a target. The reward is declared in the manifest (rewards.py); sampling.py has an iteration's first
half, ppo.py the arithmetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from policy_api.base import Metric
from policy_api.contract.artifact import Generation, Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.ppo import PPO
from policy_models.text import rendering

from policy_trainer import adapter, base_model, checks, data, engine, evaluate, ppo, sampling, text
from policy_trainer.engine import Engine
from policy_trainer.figures import Chart, bars, curves
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.loop import Loop
from policy_trainer.ppo import Scale
from policy_trainer.process import Process, prepare
from policy_trainer.result import Evaluated, Fitted, Trained
from policy_trainer.rewards import Rewards, violates
from policy_trainer.sampling import Actor, Sampled, Sampler
from policy_trainer.stop import StopRequest

TITLES = {
    "reward": "Mean reward",
    "kl": "KL to the start",
    "approx_kl": "KL to what answered, at an iteration's end",
    "kl_coefficient": "Coefficient of the penalty",
    "tokens": "Mean length in tokens",
    "value_loss": "Value loss",
}
ORDER = 2  # what a seed is for
TIE = 0.5


def train(run: RunConfig, block: PPO, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate; one step of the run is an iteration.

    Metrics on the `validation` prompts, of answers sampled at the training's temperature, as the
    version will be served:
    `eval_reward`, `eval_reward_base`, `eval_reward_delta`; `win_rate` (share of answers that earn
    more than the start's, ties half; Wilson interval) and `win_rate_delta` (that less one half;
    bootstrap over prompts); `mean_tokens`; `kl` (to the start, in nats a token; without
    `validation` that of the answers of the last iteration); on the `probes`, else on `validation`:
    `safety_violation_rate` (share of answers with a text that a `forbidden` term forbids; Wilson
    interval); `eval_answer_valid`; with a judge, what it took.
    """
    rewards = Rewards(run, block.rewards, "ppo.rewards", process)
    loaded = data.load_all(run, checks.of(run), checks.inputs(run.recipe))
    prompts = {name: [row["prompt"] for row in part.rows] for name, part in loaded.items()}
    model, tokenizer = base_model.load(run, process, prompts["train"], to_train=True)
    text.check_room(
        tokenizer, prompts["train"], block.max_length, block.max_completion_length, "ppo"
    )

    def start() -> Any:
        return base_model.load(run, process, prompts["train"])[0]

    actor = Actor(adapter.wrapped(run, model), process)
    near = actor.model if run.adapter is not None else start()
    prepare(near, process)
    trainer = engine.build(run, process, actor, block.learning_rate, block.mini_batch_size)
    sampler = Sampler(run, block, actor, near, tokenizer, rewards, process)
    fitted = _learn(run, block, Learning(trainer, sampler, prompts["train"]), stop)
    used = [part.used for part in loaded.values()]
    rewards.add_up_judging()
    if not process.first:
        return Trained(fitted, used, evaluated=None)
    trained = adapter.merged(run, actor.model, start)
    comparison = Comparison(run, block, rewards, tokenizer, process)
    return Trained(fitted, used, comparison.evaluate(trained, start(), prompts, fitted))


@dataclass(frozen=True)
class Learning:
    """What learns, from which answers, to which prompts."""

    trainer: Engine
    sampler: Sampler
    prompts: Sequence[str]


def _learn(run: RunConfig, block: PPO, learning: Learning, stop: StopRequest) -> Fitted:
    trainer, process = learning.trainer, learning.sampler.process
    loop = Loop(run, process, stop, block.iterations)
    coefficient, scale = block.kl.initial, Scale()
    if (folder := loop.resume()) is not None:
        more = trainer.load(folder)
        # An older trainer's checkpoint has no scale.
        coefficient, scale = more["coefficient"], Scale(*more.get("scale", ()))
    for iteration in loop.steps():
        trainer.set_rate(block.learning_rate * (1 - (iteration - 1) / block.iterations))
        sampled = learning.sampler.sample(learning.prompts, iteration, coefficient, scale)
        rows = _batches(block, sampled, (run.seed, ORDER, iteration, process.rank))
        learned = _steps(trainer, block, sampled, rows, process)
        coefficient = ppo.next_coefficient(coefficient, sampled.metrics["kl"], block.kl)
        scale = sampled.scale
        more = {"coefficient": coefficient, "scale": list(astuple(scale))}
        metrics = {**sampled.metrics, **learned}
        loop.end_step(metrics, lambda folder, more=more: trainer.save(folder, more))  # type: ignore[misc]
    return loop.fitted()


def _batches(block: PPO, sampled: Sampled, seed: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yield the numbers of the answers of each optimizer step."""
    chance = np.random.default_rng(seed)
    for _ in range(block.epochs):
        order = torch.from_numpy(chance.permutation(block.batch_size))
        yield from order.to(sampled.tokens.device).split(block.mini_batch_size)


def _steps(
    trainer: Engine,
    block: PPO,
    sampled: Sampled,
    batches: Iterator[torch.Tensor],
    process: Process,
) -> dict[str, float]:
    """Learn from an iteration's answers; stop when the policy has gone as far as it may at once.

    That is the divergence of a policy whose every ratio is at the clip. The clip alone does not
    hold it: it takes the gradient off, and what moves the other tokens moves these as well.
    """
    most = block.clip**2 / 2
    updates = 0
    found: list[list[float]] = []
    for rows in batches:
        before = sampled.before.rows(rows)
        logs, values = trainer(
            tokens=sampled.tokens[rows],
            seen=sampled.seen[rows],
            asked=sampled.asked,
            heat=block.temperature,
        )
        policy, value, clipped = ppo.losses(logs, values, before, block.clip)
        numbers = [policy.item(), value.item(), clipped.item(), ppo.moved(logs, before)]
        found.append(engine.mean_over_processes(process, numbers))
        if found[-1][-1] > most:
            break
        trainer.learn(policy + block.value_weight * value)
        updates += 1
    names = ("policy_loss", "value_loss", "clipped", "approx_kl")
    means = dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
    return {**means, "approx_kl": found[-1][-1], "updates": updates}


@dataclass(frozen=True)
class Comparison:
    """Compares the trained policy's answers with the start's."""

    run: RunConfig
    block: PPO
    rewards: Rewards
    tokenizer: Any
    process: Process

    def evaluate(
        self, trained: Any, start: Any, prompts: dict[str, list[str]], fitted: Fitted
    ) -> Evaluated:
        """Return the metrics and charts, and what writes the trained policy."""
        intervals = Intervals.of(self.run)
        metrics: list[Metric] = []
        charts = curves(fitted.history, TITLES)
        if held_out := prompts.get("validation", []):
            found, drawn = self._compare(trained, start, held_out, intervals)
            metrics += found
            charts.append(drawn)
        elif fitted.history:
            metrics.append(Metric(name="kl", value=fitted.history[-1]["kl"]))
        if tempting := prompts.get("probes") or held_out:
            metrics += self._safety(trained, tempting, intervals)
        metrics += self.rewards.judging()
        written = text.writer(trained, self.tokenizer)
        return Evaluated(
            metrics, Kind.CAUSAL_LM, written, generation=self._generation, charts=charts
        )

    @property
    def _generation(self) -> Generation:
        """How the version answers: as it was trained and judged, sampled."""
        return Generation(
            max_new_tokens=self.block.max_completion_length,
            temperature=self.block.temperature,
            prompt_template=rendering.template(self.tokenizer),
        )

    def _sampled(self, model: Any, prompts: Sequence[str]) -> list[str]:
        """Return a few answers to each prompt, those to one after the other."""
        return evaluate.texts(self.tokenizer, self._generated(model, prompts))

    def _generated(self, model: Any, prompts: Sequence[str]) -> Iterator[tuple[torch.Tensor, int]]:
        torch.manual_seed(self.run.seed)
        repeated = evaluate.repeated(prompts)
        return evaluate.in_batches(model, self.tokenizer, repeated, self._generation, self.process)

    def _totals(self, prompts: Sequence[str], answers: Sequence[str]) -> Numbers:
        """Return the rewards of each prompt's answers: (prompts, samples)."""
        return np.array(self.rewards.totals(evaluate.repeated(prompts), answers)).reshape(
            len(prompts), -1
        )

    def _compare(
        self, trained: Any, start: Any, prompts: Sequence[str], intervals: Intervals
    ) -> tuple[list[Metric], Chart]:
        made = list(self._generated(trained, prompts))
        answers = evaluate.texts(self.tokenizer, made)
        mine = self._totals(prompts, answers)
        theirs = self._totals(prompts, self._sampled(start, prompts))
        wins = _wins(mine, theirs)
        rate = intervals.share("win_rate", float(wins.mean()), len(prompts))
        tokens = self.tokenizer(answers, add_special_tokens=False)["input_ids"]
        metrics = [
            *intervals.compare("eval_reward", mine.mean(axis=1), theirs.mean(axis=1)),
            rate,
            intervals.mean("kl", *self._apart(trained, start, made)),
            intervals.mean("win_rate_delta", wins - TIE),
            intervals.mean("mean_tokens", list(map(len, tokens))),
            evaluate.validity(self.run.answer_schema, answers, intervals),
        ]
        for name, other in base_model.other_versions(self.run, self.process):
            before = self._totals(prompts, self._sampled(other, prompts))
            gain = intervals.mean(
                criteria.versus("eval_reward", name), mine.mean(axis=1) - before.mean(axis=1)
            )
            won = intervals.mean(criteria.versus("win_rate", name), _wins(mine, before) - TIE)
            metrics += [gain, won]
        shown = [("trained", rate.value, rate.low or 0.0, rate.high or 1.0)]
        return metrics, bars("win_rate", "Wins against the start", "win rate", shown)

    def _apart(
        self, trained: Any, start: Any, made: Sequence[tuple[torch.Tensor, int]]
    ) -> tuple[Numbers, Numbers]:
        """Return the divergence a token of each prompt's answers, and how many they have."""
        prepare(start, self.process)
        found = sampling.apart(trained, start, self.tokenizer, made, self.block.temperature)
        sums, tokens = (each.reshape(-1, evaluate.SAMPLES).sum(axis=1) for each in found)
        return sums / tokens, tokens

    def _safety(self, trained: Any, prompts: Sequence[str], intervals: Intervals) -> list[Metric]:
        patterns = [p for reward in self.block.rewards for p in reward.forbidden or []]
        if not patterns:
            return []
        answers = self._sampled(trained, prompts)
        found = [violates(patterns, answer) for answer in answers]
        return [intervals.share("safety_violation_rate", float(np.mean(found)), len(found))]


def _wins(mine: Numbers, theirs: Numbers) -> Numbers:
    """Return each prompt's share of answers that earn more than the other's; ties half."""
    won = np.where(mine == theirs, TIE, (mine > theirs).astype(float))
    return won.mean(axis=1)
