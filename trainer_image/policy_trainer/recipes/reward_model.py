"""RewardModel: learn to score answers from pairs of a better and a worse one (TRL's RewardTrainer).

The loss is that of Bradley and Terry (1952): the chosen answer's score should be above the rejected
one's. Two baselines show what a score of trivial features would be worth: the longer answer, and a
logistic model of the answers' words.
"""

from collections.abc import Sequence

import numpy as np
from policy_api.base import Metric
from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria
from policy_api.v1alpha1.recipes.reward_model import RewardModel

from policy_trainer import adapter, arguments, base_model, pairs, scores, text
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.data import Row
from policy_trainer.figures import Chart, curves
from policy_trainer.fit import Saver, fit
from policy_trainer.intervals import Intervals, Numbers
from policy_trainer.process import Process, prepare
from policy_trainer.result import Evaluated, Trained
from policy_trainer.stop import StopRequest

WORD = r"(?u)\b\w+\b"
TIE = 0.5  # what a pair counts whose answers score the same
TITLES = {"loss": "Training loss", "accuracy": "Accuracy", "margin": "Margin"}


def train(run: RunConfig, block: RewardModel, process: Process, stop: StopRequest) -> Trained:
    """Train and, in rank 0, evaluate.

    Metrics on the `validation` pairs: `eval_accuracy` (share whose chosen answer scores higher,
    ties half), `eval_auc` (of the scores of all chosen against all rejected answers), `eval_ece`
    (calibration error of the sigmoid of the difference), `eval_loss`, the baselines'
    `eval_accuracy_baseline_length` and `eval_accuracy_baseline_words`, and
    `eval_accuracy_vs_best_baseline`.
    """
    loaded = pairs.load(run)
    rows = loaded["train"].rows
    held_out = loaded["validation"].rows if "validation" in loaded else []

    from datasets import Dataset  # noqa: PLC0415 - seconds, after the data was checked
    from trl import RewardConfig, RewardTrainer  # noqa: PLC0415

    checkpoints = Checkpoints.open(run, process)
    args = arguments.build(
        RewardConfig, block, run, process, checkpoints, max_length=block.max_length
    )
    learned_from = [row[field] for row in rows for field in ("prompt", "chosen", "rejected")]
    model, tokenizer = base_model.load(run, process, learned_from, scores=True, to_train=True)
    pairs.check_length(tokenizer, rows, block.max_length, "train")
    trainer = RewardTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([text.example(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter.config(run, model, scores=True),
    )
    weights, fitted = fit(trainer, Saver(run, checkpoints, stop), checkpoints, stop)
    del trainer, model  # their memory is needed for the evaluation
    used = [source.used for source in loaded.values()]
    if not process.first:
        return Trained(fitted, used, evaluated=None)

    from policy_models.text import scorer  # noqa: PLC0415 - torch

    base, tokenizer = base_model.load(run, process, learned_from, scores=True)
    trained = adapter.trained_model(run, weights, base, scores=True)
    trained.config.pad_token_id = tokenizer.pad_token_id  # where the last token is
    metrics: list[Metric] = []
    charts: list[Chart] = []
    if held_out:
        sides = [[(row["prompt"], row[a]) for row in held_out] for a in ("chosen", "rejected")]
        prepare(trained, process)
        chosen, rejected = (scorer.scores(trained, tokenizer, side) for side in sides)
        intervals = Intervals.of(run)
        metrics, charts = _judge(intervals, chosen, rejected)
        right = _right(chosen - rejected)
        metrics += _beside_baselines(intervals, right, rows, held_out)
        for name, other in base_model.other_versions(run, process, scores=True):
            prepare(other, process)
            theirs = [scorer.scores(other, tokenizer, side) for side in sides]
            difference = right - _right(theirs[0] - theirs[1])
            metrics.append(intervals.mean(criteria.versus("eval_accuracy", name), difference))
    charts += curves(fitted.history, TITLES)
    written = text.writer(trained, tokenizer)
    return Trained(fitted, used, Evaluated(metrics, Kind.REWARD_MODEL, written, charts=charts))


def _right(differences: Numbers) -> Numbers:
    return np.where(differences == 0, TIE, (differences > 0).astype(float))


def _judge(
    intervals: Intervals, chosen: Numbers, rejected: Numbers
) -> tuple[list[Metric], list[Chart]]:
    """Return what the scores of the two answers of each pair are worth."""
    difference = chosen - rejected
    # Each pair once in each order, or "the first is better" would always be true.
    likely = 1 / (1 + np.exp(-np.concatenate([difference, -difference])))
    truth = np.repeat([1.0, 0.0], len(difference))

    def auc(better: Numbers, worse: Numbers) -> float:
        return scores.auc(
            np.concatenate([better, worse]), np.repeat([1.0, 0.0], [len(better), len(worse)])
        )

    metrics = [
        intervals.mean("eval_accuracy", _right(difference)),
        intervals.statistic("eval_auc", auc, chosen, rejected),
        intervals.mean("eval_loss", np.logaddexp(0, -difference)),
        intervals.statistic("eval_ece", _pair_ece, difference),
    ]
    both = np.concatenate([chosen, rejected])
    return metrics, [scores.roc_chart(both, truth), scores.reliability_chart(likely, truth)]


def _pair_ece(difference: Numbers) -> float:
    likely = 1 / (1 + np.exp(-np.concatenate([difference, -difference])))
    return scores.ece(likely, np.repeat([1.0, 0.0], len(difference)))


def _beside_baselines(
    intervals: Intervals, right: Numbers, rows: Sequence[Row], held_out: Sequence[Row]
) -> list[Metric]:
    """Return the baselines' accuracies, and the model's above the better of them."""
    longer = np.array([len(row["chosen"]) - len(row["rejected"]) for row in held_out], dtype=float)
    found = {"length": _right(longer), "words": _right(_word_scores(rows, held_out))}
    best = max(found.values(), key=lambda numbers: float(numbers.mean()))
    return [
        *(intervals.mean(f"eval_accuracy_baseline_{name}", n) for name, n in found.items()),
        intervals.mean(criteria.versus("eval_accuracy", criteria.BEST_BASELINE), right - best),
    ]


def _word_scores(rows: Sequence[Row], held_out: Sequence[Row]) -> Numbers:
    """Return the differences of a logistic model of the answers' words, learned from the pairs."""
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415 - seconds
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    counts = CountVectorizer(max_features=20_000, binary=True, token_pattern=WORD)
    counts.fit([row[answer] for row in rows for answer in ("chosen", "rejected")])

    def difference(some: Sequence[Row]) -> Numbers:
        return counts.transform([r["chosen"] for r in some]) - counts.transform(
            [r["rejected"] for r in some]
        )

    learned = difference(rows)
    # Each pair in both orders, so that there are two classes and no bias.
    from scipy.sparse import vstack  # noqa: PLC0415 - see above

    both, truth = vstack([learned, -learned]), np.repeat([1, 0], len(rows))
    model = LogisticRegression(fit_intercept=False, max_iter=1000).fit(both, truth)
    return np.asarray(model.decision_function(difference(held_out)))
