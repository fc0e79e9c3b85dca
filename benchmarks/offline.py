"""Recipes that learn from logs, beside other ways to do the same; prints tables.

    python benchmarks/offline.py [--steps 3000] [--seeds 5]

CQL beside d3rlpy's DiscreteCQL on the same decisions, network, batches and steps (needs
`pip install d3rlpy==2.8.0` in the trainer's environment; without it that part says so), bag of
words on 100,000 plans beside scikit-learn's logistic regression on the same features, and
off-policy evaluation of 1,000,000 decisions. Needs the trainer's environment.
"""

import argparse
import importlib.util
import json
import logging
import os
import resource
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
for folder in ("api", "examples", "models", "trainer_image", "tests"):
    sys.path.insert(0, str(REPO / folder))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from policy_api.v1alpha1.recipes.cql import CQL  # noqa: E402
from policy_examples import synthesize  # noqa: E402
from policy_trainer import checks, decisions, ope, run, tabular, worth  # noqa: E402
from policy_trainer.decisions import Decisions  # noqa: E402
from policy_trainer.process import Process  # noqa: E402
from policy_trainer.qlearning import Batches, Learner  # noqa: E402
from policy_trainer.stop import StopRequest  # noqa: E402
from policy_trainer.worth import Judge  # noqa: E402
from trainer.worlds import config  # noqa: E402

BLOCK = CQL(hidden=[256, 256], batch_size=64, alphas=[1.0], target_update_steps=200)


def logged(root: Path, seed: int) -> tuple[Decisions, Decisions, tabular.Encoder, list[str]]:
    """Return decisions to learn from and to judge on."""
    synthesize.make("agent-selection", root, 6000, seed)
    parts = {}
    for name in ("train", "test"):
        lines = (root / f"{name}.jsonl").read_text().splitlines()
        parts[name] = [checks.decision(json.loads(line), None) for line in lines]  # type: ignore[arg-type]
    space = decisions.action_space(parts, (), "cql")
    encoder = tabular.learn([row["state"] for row in parts["train"]], (), (), "cql")
    made = [Decisions.of(parts[name], encoder, space) for name in ("train", "test")]
    return made[0], made[1], encoder, space


def ours(known: Decisions, encoder: Any, space: list[str], seed: int, steps: int) -> Any:
    """Learn by the recipe's own loop; return (seconds, what tells the best action)."""
    learner = Learner(BLOCK, encoder, space, seed=seed, device="cpu", before=None)
    batches = Batches(known, BLOCK, seed, "cpu")
    began = time.perf_counter()
    for step in range(1, steps + 1):
        learner.learn(batches.draw(step), 1.0)
        if step % BLOCK.target_update_steps == 0:
            learner.update_target()
    seconds = time.perf_counter() - began

    def best(states: Any) -> Any:
        import torch  # noqa: PLC0415 - as the recipe

        with torch.no_grad():
            return learner.network(torch.from_numpy(states)).argmax(dim=1).numpy()

    return seconds, best


def theirs(known: Decisions, seed: int, steps: int) -> Any:
    """Learn by d3rlpy; return the same."""
    import d3rlpy  # noqa: PLC0415 - may be missing

    d3rlpy.seed(seed)
    dataset = d3rlpy.dataset.MDPDataset(
        observations=known.states,
        actions=known.actions[:, None],
        rewards=known.rewards[:, None].astype(np.float32),
        terminals=known.done,
    )
    learner = d3rlpy.algos.DiscreteCQLConfig(
        learning_rate=BLOCK.learning_rate,
        batch_size=BLOCK.batch_size,
        gamma=BLOCK.gamma,
        alpha=1.0,
        target_update_interval=BLOCK.target_update_steps,
        encoder_factory=d3rlpy.models.VectorEncoderFactory(hidden_units=BLOCK.hidden),
    ).create(device="cpu:0")
    began = time.perf_counter()
    learner.fit(
        dataset,
        n_steps=steps,
        n_steps_per_epoch=steps,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    return time.perf_counter() - began, learner.predict


def compare_cql(steps: int, seeds: int) -> None:
    """Print seconds and worth of both, over seeds."""
    if importlib.util.find_spec("d3rlpy") is None:
        print("CQL: d3rlpy is not installed, nothing to compare with")
        return
    print("| seed | ours, s | d3rlpy, s | d3rlpy / ours | worth of ours | of d3rlpy's |")
    print("|---|---|---|---|---|---|")
    ratios, gains = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            known, held_out, encoder, space = logged(Path(name), seed)
        judge = Judge(known, held_out, len(space), 6.0)
        found = []
        for learn in (
            partial(ours, known, encoder, space, seed, steps),
            partial(theirs, known, seed, steps),
        ):
            seconds, best = learn()
            made = judge.judge(worth.always(best(held_out.states), len(space)), "policy")
            value = float(made.rewards.mean()) if made.rewards is not None else float("nan")
            found.append((seconds, value))
        (mine, value), (other, other_value) = found
        ratios.append(other / mine)
        gains.append(value - other_value)
        times = f"{mine:.1f} | {other:.1f} | {other / mine:.1f}"
        print(f"| {seed} | {times} | {value:.2f} | {other_value:.2f} |", flush=True)
    error = statistics.stdev(gains) / len(gains) ** 0.5
    print(f"d3rlpy takes {statistics.median(ratios):.1f} times as long (aim: more than 1)")
    print(
        f"worth of ours less theirs: {statistics.mean(gains):+.3f} ± {error:.3f}, standard error "
        "(aim: not below 0 by more than noise)"
    )


def bag_of_words(count: int) -> None:
    """Print the seconds of training on many plans, beside scikit-learn's solver."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["POLICYOPS_STATE_DIR"] = str(root / "state")
        synthesize.make("plan-preference", root, count)
        block = {"epochs": 5, "maxVocabulary": 4000}
        fields = {"recipe": "PlanPreference", "sft": None, "planPreference": block, "base": {}}
        wanted = config(root, "bench", **fields)
        began = time.perf_counter()
        report = run.execute(wanted, Process(0, 0, 1, on_gpu=False), StopRequest())
        seconds = time.perf_counter() - began
        from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

        rows = [json.loads(line) for line in (root / "train.jsonl").read_text().splitlines()]
        began = time.perf_counter()
        liked = [("good" in r["feedback"] or "+1" in r["feedback"]) for r in rows]
        features = CountVectorizer(binary=True, max_features=4000).fit_transform(
            r["plan"] for r in rows
        )
        LogisticRegression(max_iter=200).fit(features, liked)
        theirs_seconds = time.perf_counter() - began
    accuracy = next(m.value for m in report.metrics if m.name == "accuracy")
    print(
        f"bag of words, {count:,} plans: {seconds:.1f} s (reading, labels, epochs, intervals; aim: "
        f"under 10), accuracy {accuracy:.3f}; scikit-learn's features and solver alone "
        f"{theirs_seconds:.1f} s"
    )


def evaluation(count: int, actions: int = 10, width: int = 16) -> None:
    """Print seconds and memory of off-policy evaluation."""
    chance = np.random.default_rng(0)
    contexts = chance.normal(size=(count, width))
    taken, rewards = chance.integers(actions, size=count), chance.random(count)
    policy = chance.dirichlet(np.ones(actions), size=count)
    propensities = np.full(count, 1 / actions)
    began = time.perf_counter()
    half = slice(None, None, 2)
    model = ope.RewardModel.fit(contexts[half], taken[half], rewards[half], actions)
    expected = model.predict(contexts)
    made = ope.logged(rewards, propensities, taken, policy, expected)
    ope.evaluate(made, list(ope.Estimator))
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"off-policy evaluation of {count:,} decisions, {actions} actions, by four estimators: "
        f"{seconds:.1f} s (aim: under 5), {memory:.2f} GiB at most (aim: under 2)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    evaluation(1_000_000)
    bag_of_words(100_000)
    compare_cql(options.steps, options.seeds)


if __name__ == "__main__":
    main()
