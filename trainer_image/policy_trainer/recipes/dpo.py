"""DPO: learn from pairs which answer people prefer (TRL's DPOTrainer).

Rafailov et al. 2023. What is kept near is the model that training starts from.
"""

from typing import Any

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Generation, Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.dpo import DPO
from policy_models.text import rendering

from policy_trainer import adapter, arguments, base_model, evaluate, pairs, text
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.data import Row
from policy_trainer.figures import curves
from policy_trainer.fit import Saver, fit
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

TITLES = {"loss": "Training loss", "rewards/margins": "Margin", "rewards/accuracies": "Accuracy"}


def train(run: RunConfig, block: DPO, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics on the `validation` pairs: `eval_margin` (mean of beta times how much more the chosen
    answer gained in log-probability than the rejected one, in nats), `eval_accuracy` (share of
    pairs with a margin above 0), `eval_loss` (mean of -log sigmoid of the margin); of greedy
    answers `eval_answer_valid` and, with `decision`, `decision_accuracy`, `decision_fpr`,
    `decision_fnr`.
    """
    evaluate.check_decision(block.decision, "dpo.decision.pattern")
    loaded = pairs.load(run)
    rows = loaded["train"].rows
    held_out = loaded["validation"].rows if "validation" in loaded else []

    from datasets import Dataset  # noqa: PLC0415 - seconds, after the data was checked
    from trl import DPOConfig, DPOTrainer  # noqa: PLC0415

    checkpoints = Checkpoints.open(run, process)
    args = arguments.build(
        DPOConfig, block, run, process, checkpoints, max_length=block.max_length, beta=block.beta
    )
    learned_from = [row[field] for row in rows for field in ("prompt", "chosen", "rejected")]
    model, tokenizer = base_model.load(run, process, learned_from, to_train=True)
    pairs.check_length(tokenizer, rows, block.max_length, "train")
    longest = max(len(tokenizer(row["chosen"])["input_ids"]) for row in rows)
    generation = Generation(
        max_new_tokens=min(block.max_length, 2 * longest),
        prompt_template=rendering.template(tokenizer),
    )
    saver = Saver(run, checkpoints, stop)
    # An adapter can be turned off instead. TRL would load the start by name: a new one has none.
    alone = run.adapter is not None or args.precompute_ref_log_probs
    trainer = DPOTrainer(
        model=model,
        ref_model=None if alone else base_model.load(run, process, learned_from)[0],
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

    base, tokenizer = base_model.load(run, process, learned_from)

    def margins(model: Any) -> Numbers:
        return block.beta * (_preference(model, tokenizer, held_out, process) - start)

    start = _preference(base, tokenizer, held_out, process) if held_out else None
    trained = adapter.trained_model(run, weights, base)
    metrics: list[Metric] = []
    if held_out:
        intervals = Intervals.of(run)
        found = margins(trained)
        metrics = [
            intervals.mean("eval_margin", found),
            intervals.mean("eval_accuracy", (found > 0).astype(float)),
            intervals.mean("eval_loss", np.logaddexp(0, -found)),
        ]
        for name, other in base_model.other_versions(run, process):
            theirs = margins(other)
            difference = (found > 0).astype(float) - (theirs > 0)
            metrics += [
                intervals.mean(criteria.versus("eval_margin", name), found - theirs),
                intervals.mean(criteria.versus("eval_accuracy", name), difference),
            ]
        prompts = [row["prompt"] for row in held_out]
        metrics += evaluate.served(
            trained,
            tokenizer,
            prompts,
            generation,
            process,
            run=run,
            decision=block.decision,
            truths=[row["chosen"] for row in held_out],
        )
    evaluated = Evaluated(
        metrics,
        Kind.CAUSAL_LM,
        text.writer(trained, tokenizer),
        generation=generation,
        charts=curves(fitted.history, TITLES),
    )
    return Trained(fitted, used, evaluated)


def _preference(model: Any, tokenizer: Any, rows: list[Row], process: Process) -> Numbers:
    """Return how much likelier each pair's chosen answer is than its rejected one, in nats."""
    logs = []
    for answer in ("chosen", "rejected"):
        asked = [{"prompt": row["prompt"], "completion": row[answer]} for row in rows]
        means, counts = evaluate.losses(model, tokenizer, asked, process)
        logs.append(-means * counts)
    return logs[0] - logs[1]
