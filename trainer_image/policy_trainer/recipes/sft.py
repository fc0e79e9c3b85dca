"""SFT: learn answers from examples (TRL's SFTTrainer)."""

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Generation, Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.sft import SFT
from policy_models.text import rendering

from policy_trainer import adapter, arguments, base_model, checks, data, evaluate, text
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.figures import curves
from policy_trainer.fit import Saver, fit
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

MARGIN = 1.25  # an answer may be this much longer than the longest that was learned


def train(run: RunConfig, block: SFT, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics: `eval_loss` and `eval_loss_base` (mean over the tokens of the answers of the
    `validation` data, after and before), `eval_loss_delta` (after minus before, so less is better),
    `eval_perplexity` (e to the mean loss), `eval_answer_valid` (share of served answers that keep
    the answer schema); with `decision`: `decision_accuracy`, `decision_fpr`, `decision_fnr`.
    """
    evaluate.check_decision(block.decision, "sft.decision.pattern")
    loaded = data.load_all(run, checks.of(run))
    rows = loaded["train"].rows
    held_out = loaded["validation"].rows if "validation" in loaded else []

    from datasets import Dataset  # noqa: PLC0415 - seconds, after the data was checked
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    checkpoints = Checkpoints.open(run, process)
    args = arguments.build(
        SFTConfig,
        block,
        run,
        process,
        checkpoints,
        max_length=block.max_length,
        packing=block.packing,
    )
    learned_from = [
        part for row in rows for part in (*rendering.plain(row["prompt"]), row["completion"])
    ]
    model, tokenizer = base_model.load(run, process, learned_from, to_train=True)
    text.check_chats(tokenizer, rows)
    generation = Generation(
        max_new_tokens=min(
            block.max_length,
            int(MARGIN * max(len(tokenizer(row["completion"])["input_ids"]) for row in rows)) + 1,
        ),
        prompt_template=rendering.template(tokenizer),
    )
    saver = Saver(run, checkpoints, stop)
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([text.example(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter.config(run, model),
    )
    weights, fitted = fit(trainer, saver, checkpoints, stop)
    del trainer, model  # their memory is needed for the evaluation

    used = [source.used for source in loaded.values()]
    if not process.first:
        return Trained(fitted, used, evaluated=None)

    metrics: list[Metric] = []
    base, tokenizer = base_model.load(run, process, learned_from)
    before = evaluate.losses(base, tokenizer, held_out, process) if held_out else None
    trained = adapter.trained_model(run, weights, base)
    if before is not None:
        intervals = Intervals.of(run)
        after, tokens = evaluate.losses(trained, tokenizer, held_out, process)
        metrics += intervals.compare("eval_loss", after, before[0], tokens)
        metrics.append(intervals.statistic("eval_perplexity", _perplexity, after, tokens))
        for name, other in base_model.other_versions(run, process):
            theirs, _ = evaluate.losses(other, tokenizer, held_out, process)
            named = criteria.versus("eval_loss", name)
            metrics.append(intervals.mean(named, after - theirs, tokens))
        prompts = [row["prompt"] for row in held_out]
        metrics += evaluate.served(
            trained,
            tokenizer,
            prompts,
            generation,
            process,
            run=run,
            decision=block.decision,
            truths=[row["completion"] for row in held_out],
        )
    evaluated = Evaluated(
        metrics,
        Kind.CAUSAL_LM,
        text.writer(trained, tokenizer),
        generation=generation,
        charts=curves(fitted.history, {"loss": "Training loss"}),
    )
    return Trained(fitted, used, evaluated)


def _perplexity(losses: Numbers, tokens: Numbers) -> float:
    return float(np.exp(np.average(losses, weights=tokens)))
