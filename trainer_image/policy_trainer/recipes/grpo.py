"""GRPO: sample answers in groups, reinforce the better ones of each group (TRL's GRPOTrainer).

Shao et al. 2024, DeepSeekMath. The reward is declared in the manifest, see rewards.py.
"""

from typing import Any

from policy_api.artifact import Generation
from policy_api.base import Metric
from policy_api.run import RunConfig
from policy_api.v1alpha1.training import GRPO

from policy_trainer import adapter, arguments, base_model, data, evaluate, rewards, text
from policy_trainer.checkpoint import Checkpoints, Saver, fit
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest


def train(run: RunConfig, block: GRPO, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics: `eval_reward` and `eval_reward_base` (mean reward of answers to the `validation`
    prompts, sampled at the training's temperature, after and before), `eval_reward_delta` (after
    minus before), `eval_answer_valid` (share of greedy answers that keep the answer schema).
    """
    rewards.check(block.rewards)
    room = block.max_length - block.max_completion_length
    if room <= 0:
        raise ConfigInvalidError(
            f"maxLength {block.max_length} leaves no room for a prompt beside "
            f"maxCompletionLength {block.max_completion_length}",
            field="grpo.maxLength",
        )
    inputs = [source for name in ("train", "validation") if (source := run.input(name))]
    loaded = {source.name: data.load(source, ["prompt"]) for source in inputs}
    rows = loaded["train"].rows
    held_out = [row["prompt"] for row in loaded["validation"].rows] if len(loaded) > 1 else []

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
    model, tokenizer = base_model.load(run, process, learned_from)
    for number, row in enumerate(rows, start=1):
        length = len(tokenizer(text.asked(tokenizer, row["prompt"]))["input_ids"])
        if length > room:
            raise DataInvalidError(
                f"the prompt has {length} tokens, {room} fit beside maxCompletionLength",
                field=f"data[train] row {number} field prompt",
            )
    trainer = GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=[rewards.function(reward) for reward in block.rewards],
        train_dataset=Dataset.from_list([text.example(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter.config(run, model),
    )
    # One generation serves this many forward passes, and so this many optimizer steps.
    passes = args.steps_per_generation * args.num_iterations
    unit = max(1, passes // args.gradient_accumulation_steps)
    saver = Saver(checkpoints, stop, run.checkpoints.every_steps, unit)
    fitted = fit(trainer, saver, checkpoints, stop)
    del trainer, model  # their memory is needed for the evaluation
    generation = Generation(
        max_new_tokens=block.max_completion_length, prompt_template=text.template(tokenizer)
    )
    used = [source.used for source in loaded.values()]
    if not process.first:
        return Trained(fitted, used, generation, evaluated=None)

    metrics: list[Metric] = []
    base, tokenizer = base_model.load(run, process, learned_from)
    sampled = generation.model_copy(update={"temperature": block.temperature})

    def score(model: Any) -> Any:
        return evaluate.mean_rewards(
            model, tokenizer, held_out, sampled, process, rewards=block.rewards, seed=run.seed
        )

    before = score(base) if held_out else None
    trained = adapter.trained_model(run, fitted.weights, base)
    if before is not None:
        metrics += evaluate.compare("eval_reward", score(trained), before, run.seed)
        served = evaluate.answers(trained, tokenizer, held_out, generation, process)
        metrics.append(evaluate.validity(run.answer_schema, served, run.seed))
    return Trained(fitted, used, generation, Evaluated(trained, tokenizer, metrics))
