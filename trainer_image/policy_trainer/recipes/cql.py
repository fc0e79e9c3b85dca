"""CQL: learn which action to take from logged decisions (discrete conservative Q-learning).

Kumar et al. 2020. The conservative term, weighted by alpha, keeps what the log does not show from
looking good.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.cql import CQL
from policy_models.q_policy import QPolicy

from policy_trainer import (
    checks,
    confidence,
    data,
    decisions,
    references,
    scores,
    tabular,
    worth,
)
from policy_trainer.decisions import Decisions
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.figures import Chart, ChartKind, Series, curves
from policy_trainer.intervals import Intervals
from policy_trainer.loop import Loop, load_state, save_state
from policy_trainer.process import Process
from policy_trainer.qlearning import Batches, Learner
from policy_trainer.result import Evaluated, Trained
from policy_trainer.selection import Selection, greedy
from policy_trainer.stop import StopRequest
from policy_trainer.worth import Judge

REPORT_STEPS = 100
CURVES = {"loss": "Training loss", "td_loss": "TD loss", "conservative": "Conservative term"}

log = logging.getLogger(__name__)


def train(run: RunConfig, block: CQL, process: Process, stop: StopRequest) -> Trained:
    """Train and evaluate.

    Adam's learning rate falls linearly to zero, and of the networks tried on the way the one that
    is worth most on `validation` is kept (selection.py): a log says little about some actions, and
    the noise of what followed them is learned last.

    Metrics on `test`, else on `validation`: `accuracy` (share of decisions that succeeded which the
    policy would have taken), `success_rate` and `mean_reward` of a decision (doubly robust),
    `regret` (expected reward that the best action has more, by the model of the reward),
    `effective_sample_size`; each of the first three also for the baselines `random`,
    `most_frequent` and `highest_success`, and against the best of them; `confidence_ece` (how far
    the confidence that is served is from how often the logged action succeeded).
    """
    loaded = data.load_all(run, checks.of(run))
    rows = {name: part.rows for name, part in loaded.items()}
    if len(block.alphas) > 1 and "validation" not in rows:
        raise ConfigInvalidError(
            "several alphas are compared on `validation`: give that input, or one alpha",
            field="cql.alphas",
        )
    space = decisions.action_space(rows, block.actions, "cql")
    before = _base(run)
    states = [row["state"] for row in rows["train"]]
    states += [row["next_state"] for row in rows["train"] if not row["done"]]
    encoder = tabular.learn(states, block.features, block.forbidden, "cql")
    if before is not None:
        encoder = tabular.grown(before.encoder, encoder)
        space = [*before.actions, *(a for a in space if a not in before.actions)]
    parts = {name: Decisions.of(some, encoder, space) for name, some in rows.items()}
    known = parts["train"]

    device = "cuda" if process.on_gpu else "cpu"

    def new_learner() -> Learner:
        return Learner(block, encoder, space, seed=run.seed, device=device, before=before)

    learner = new_learner()
    batches = Batches(known, block, run.seed, device)
    selection = Selection.of(block, parts, encoder, space)
    loop = Loop(run, process, stop, block.max_steps * len(block.alphas), REPORT_STEPS)
    if (folder := loop.resume()) is not None:
        saved = load_state(folder, process)
        selection.best = saved["best"]
        learner.load(saved["learner"])

    def save(folder: Path) -> None:
        save_state(folder, process, {"best": selection.best, "learner": learner.state()})

    for number in loop.steps():
        place, step = divmod(number - 1, block.max_steps)
        if step == 0 and place > 0:
            learner = new_learner()
        alpha, share = block.alphas[place], 1 - step / block.max_steps
        losses = learner.learn(batches.draw(number), alpha, share)
        if step % block.target_update_steps == 0:
            learner.update_target()
        selection.see(learner.network.state_dict(), alpha, step + 1)
        shown = {k: float(v) for k, v in losses.items()} if loop.reports(number) else {}
        loop.end_step(shown, save)
    place, step = divmod(loop.step - 1, block.max_steps)
    if step + 1 < block.max_steps:  # it was stopped early
        selection.enter(learner.network.state_dict(), block.alphas[place], step + 1)
    policy = confidence.explained(selection.policy(), parts, block.success_reward)
    fitted = loop.fitted()
    used = [part.used for part in loaded.values()]
    about = {
        "algorithm": "CQL",
        "training_episodes": int(known.done.sum()),
        "hyperparameters": {
            **block.model_dump(include={"learning_rate", "batch_size", "gamma", "max_steps"}),
            "alpha": selection.best["alpha"],
            "kept_step": selection.best["step"],
        },
    }
    evaluated = _evaluate(run, block, policy, parts, about)
    evaluated.charts.extend(curves(fitted.history, CURVES))
    return Trained(fitted, used, evaluated)


def _base(run: RunConfig) -> QPolicy | None:
    if run.base.onnx is not None:
        from policy_trainer.exports import layered  # noqa: PLC0415 - only this base needs onnx

        content, _ = data.content_of(run.base.onnx, "base.onnx")
        return layered.read_onnx(content, run.base.onnx.uri)
    if run.base.artifact is None:
        return None
    return QPolicy.read(references.of_kind(run.base.artifact, Kind.Q_NETWORK, "base"))


def _evaluate(
    run: RunConfig,
    block: CQL,
    policy: QPolicy,
    parts: dict[str, Decisions],
    about: dict[str, Any],
) -> Evaluated:
    held_out = parts.get("test") or parts.get("validation")
    evaluated = Evaluated([], Kind.Q_NETWORK, lambda folder: policy.write(folder, about))
    if held_out is None:
        return evaluated
    count, intervals = len(policy.actions), Intervals.of(run)
    judge = Judge(parts["train"], held_out, count, block.success_reward)
    mine = judge.judge(greedy(policy, held_out), "the policy")
    plain = worth.baselines(parts["train"], count, block.success_reward, len(held_out.actions))
    beside = {name: judge.judge(rows, name) for name, rows in plain.items()}
    others = {
        name: judge.judge(_other(folder, policy, held_out), name)
        for name, folder in references.others(run, Kind.Q_NETWORK)
    }
    evaluated.metrics.extend(worth.metrics(intervals, mine, beside, others))
    sure, truth = confidence.of(policy, held_out, block.success_reward)
    evaluated.metrics.append(intervals.statistic("confidence_ece", scores.ece, sure, truth))
    evaluated.charts.append(scores.reliability_chart(sure, truth))
    about["performance"] = {metric.name: metric.value for metric in evaluated.metrics}
    charts, tables = worth.pictures(intervals, {"policy": mine, **beside, **others})
    evaluated.charts.extend([*charts, _actions_chart(policy, held_out)])
    evaluated.tables.extend(tables)
    return evaluated


def _other(folder: Path, policy: QPolicy, held_out: Decisions) -> Any:
    """Return an earlier version's choices, in this policy's action space."""
    theirs = QPolicy.read(folder)
    names = policy.encoder.dense_names()
    try:
        columns = [names.index(name) for name in theirs.encoder.dense_names()]
        space = [policy.actions.index(action) for action in theirs.actions]
    except ValueError as error:
        raise ConfigInvalidError(
            f"that version knows a column or an action that this training's data lacks: {error}",
            field=references.AGAINST,
        ) from error
    chosen = theirs.values(held_out.states[:, columns]).argmax(axis=1)
    return worth.always(np.array(space)[chosen], len(policy.actions))


def _actions_chart(policy: QPolicy, held_out: Decisions) -> Chart:
    """Show how often the policy and the log take each action."""
    count = len(policy.actions)
    chosen = policy.values(held_out.states).argmax(axis=1)
    shares = [
        Series(name, policy.actions, (np.bincount(a, minlength=count) / len(a)).tolist())
        for name, a in (("policy", chosen), ("log", held_out.actions))
    ]
    return Chart("actions", "What is chosen", "", "share", shares, ChartKind.BAR)
