"""GRPO: sample answers in groups, reinforce the better ones of each group (TRL's GRPOTrainer).

Shao et al. 2024, DeepSeekMath. The reward is declared in the manifest, see rewards.py.
"""

from typing import Any

from policy_api.base import Metric
from policy_api.contract.artifact import Generation, Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.grpo import GRPO
from policy_models.text import rendering

from policy_trainer import adapter, arguments, base_model, checks, data, evaluate, rewards, text
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.figures import curves
from policy_trainer.fit import Saver, fit
from policy_trainer.intervals import Intervals
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

TITLES = {
    "reward": "Mean reward",
    "reward_std": "Spread of the rewards",
    "frac_reward_zero_std": "Share of groups whose answers all earn the same",
    "kl": "KL to the start",
}


def train(run: RunConfig, block: GRPO, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics: `eval_reward` and `eval_reward_base` (mean reward of answers to the `validation`
    prompts, sampled at the training's temperature, after and before), `eval_reward_delta` (after
    minus before), `eval_answer_valid` (share of greedy answers that keep the answer schema); with a
    judge, what it took.
    """
    reward = rewards.Rewards(run, block.rewards, "grpo.rewards", process)
    if block.beta and run.base.scratch is not None and run.adapter is None:
        raise ConfigInvalidError(
            "beta keeps the policy near its start, and a scratch model is no start to stay near: "
            "set beta to 0 or name another base",
            field="grpo.beta",
        )
    loaded = data.load_all(run, checks.of(run))
    rows = loaded["train"].rows
    validation = loaded["validation"].rows if "validation" in loaded else []
    held_out = [row["prompt"] for row in validation]

    from datasets import Dataset  # noqa: PLC0415 - seconds, after the data was checked
    from trl import GRPOConfig, GRPOTrainer  # noqa: PLC0415

    checkpoints = Checkpoints.open(run, process)
    args = arguments.build(
        GRPOConfig,
        block,
        run,
        process,
        checkpoints,
        num_generations=block.num_generations,
        max_completion_length=block.max_completion_length,
        temperature=block.temperature,
        beta=block.beta,
    )
    learned_from = [row["prompt"] for row in rows]
    model, tokenizer = base_model.load(run, process, learned_from, to_train=True)
    text.check_room(tokenizer, learned_from, block.max_length, block.max_completion_length, "grpo")
    trainer = GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=reward.functions(),
        train_dataset=Dataset.from_list([text.example(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter.config(run, model),
    )
    # One generation serves this many forward passes, and so this many optimizer steps.
    passes = args.steps_per_generation * args.num_iterations
    unit = max(1, passes // args.gradient_accumulation_steps)
    saver = Saver(run, checkpoints, stop, unit)
    weights, fitted = fit(trainer, saver, checkpoints, stop)
    del trainer, model  # their memory is needed for the evaluation
    generation = Generation(
        max_new_tokens=block.max_completion_length, prompt_template=rendering.template(tokenizer)
    )
    used = [source.used for source in loaded.values()]
    reward.add_up_judging()
    if not process.first:
        return Trained(fitted, used, evaluated=None)

    metrics: list[Metric] = []
    base, tokenizer = base_model.load(run, process, learned_from)
    sampled = generation.model_copy(update={"temperature": block.temperature})

    def score(model: Any) -> Any:
        return evaluate.mean_rewards(
            model, tokenizer, held_out, sampled, process, rewards=reward, seed=run.seed
        )

    before = score(base) if held_out else None
    trained = adapter.trained_model(run, weights, base)
    if before is not None:
        intervals = Intervals.of(run)
        after = score(trained)
        metrics += intervals.compare("eval_reward", after, before)
        for name, other in base_model.other_versions(run, process):
            named = criteria.versus("eval_reward", name)
            metrics.append(intervals.mean(named, after - score(other)))
        metrics += evaluate.served(trained, tokenizer, held_out, generation, process, run=run)
    metrics += reward.judging()
    evaluated = Evaluated(
        metrics,
        Kind.CAUSAL_LM,
        text.writer(trained, tokenizer),
        generation=generation,
        charts=curves(fitted.history, TITLES),
    )
    return Trained(fitted, used, evaluated)
