"""SFT: learn answers from examples (TRL's SFTTrainer)."""

from policy_api.artifact import Generation
from policy_api.base import Metric
from policy_api.run import RunConfig
from policy_api.v1alpha1.training import SFT

from policy_trainer import adapter, arguments, base_model, data, evaluate, text
from policy_trainer.checkpoint import Checkpoints, Saver, fit
from policy_trainer.process import Process
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

FIELDS = ("prompt", "completion")
MARGIN = 1.25  # an answer may be this much longer than the longest that was learned


def train(run: RunConfig, block: SFT, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics: `eval_loss` and `eval_loss_base` (mean over the tokens of the answers of the
    `validation` data, after and before), `eval_loss_delta` (after minus before, so less is better),
    `eval_answer_valid` (share of served answers that keep the answer schema).
    """
    inputs = [source for name in ("train", "validation") if (source := run.input(name))]
    loaded = {source.name: data.load(source, FIELDS) for source in inputs}
    rows = loaded["train"].rows
    held_out = loaded["validation"].rows if "validation" in loaded else []

    from datasets import Dataset  # noqa: PLC0415 - seconds, after the data was checked
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    checkpoints = Checkpoints.open(run, process)
    args = arguments.build(SFTConfig, block, run, process, checkpoints, max_length=block.max_length)
    learned_from = [row[field] for row in rows for field in FIELDS]
    model, tokenizer = base_model.load(run, process, learned_from)
    generation = Generation(
        max_new_tokens=min(
            block.max_length,
            int(MARGIN * max(len(tokenizer(row["completion"])["input_ids"]) for row in rows)) + 1,
        ),
        prompt_template=text.template(tokenizer),
    )
    saver = Saver(checkpoints, stop, run.checkpoints.every_steps)
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([text.example(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter.config(run, model),
    )
    fitted = fit(trainer, saver, checkpoints, stop)
    del trainer, model  # their memory is needed for the evaluation

    used = [source.used for source in loaded.values()]
    if not process.first:
        return Trained(fitted, used, generation, evaluated=None)

    metrics: list[Metric] = []
    base, tokenizer = base_model.load(run, process, learned_from)
    before = evaluate.losses(base, tokenizer, held_out, process) if held_out else None
    trained = adapter.trained_model(run, fitted.weights, base)
    if before is not None:
        after = evaluate.losses(trained, tokenizer, held_out, process)
        metrics += evaluate.compare("eval_loss", after[0], before[0], run.seed, weights=after[1])
        prompts = [row["prompt"] for row in held_out]
        served = evaluate.answers(trained, tokenizer, prompts, generation, process)
        metrics.append(evaluate.validity(run.answer_schema, served, run.seed))
    return Trained(fitted, used, generation, Evaluated(trained, tokenizer, metrics))
