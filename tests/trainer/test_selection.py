"""The network that is worth most on `validation` is kept, and only where `test` judges it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from policy_api.contract.report import Outcome
from policy_trainer import selection
from policy_trainer.selection import Selection
from trainer import agents
from trainer.test_cql import SHORT, artifact, wanted
from trainer.worlds import StopAt, sha256

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


def judged(monkeypatch, worths):
    """Return a selection whose networks have these worths, by their steps."""
    made = Selection(None, (), every=10, last=30, held_out=object(), judge=object())
    monkeypatch.setattr(made, "_worth", lambda network, _alpha: worths[network["step"]])
    return made


def test_the_best_is_kept_and_of_equals_the_later_one(monkeypatch):
    made = judged(monkeypatch, {10: 1.0, 20: 3.0, 30: 2.0, 40: 3.0})
    for step in range(1, 31):
        made.see({"step": step}, 0.5, step)
    assert (made.best["step"], made.best["worth"], made.best["alpha"]) == (20, 3.0, 0.5)
    made.enter({"step": 40}, 2.0, 40)
    assert (made.best["step"], made.best["alpha"]) == (40, 2.0)


@pytest.mark.parametrize(
    ("parts", "alphas", "every", "judges"),
    [
        (("train",), 1, 100, False),
        (("train", "test"), 1, 10, False),
        (("train", "validation"), 1, 100, False),
        (("train", "validation"), 2, 100, True),
        (("train", "validation", "test"), 1, 10, True),
    ],
)
def test_networks_are_compared_only_where_test_judges_the_chosen_one(
    monkeypatch, parts, alphas, every, judges
):
    monkeypatch.setattr(selection, "Judge", lambda *_: "judge")
    block = SimpleNamespace(max_steps=100, alphas=[1.0] * alphas, success_reward=0)
    made = Selection.of(block, dict.fromkeys(parts, np.zeros(1)), None, ("a", "b"))
    assert (made.every, made.judge is not None) == (every, judges)


def with_test(root, uid):
    agents.write(root / "test.jsonl", 500, seed=3)
    made = wanted(root, uid, block={**SHORT, "alphas": [0.5, 2.0], "targetUpdateSteps": 5})
    third = made.data[0].model_copy(update={"name": "test", "path": str(root / "test.jsonl")})
    return made.model_copy(update={"data": (*made.data, third)})


@pytest.mark.parametrize("step", [5, 17])
def test_a_run_that_was_stopped_keeps_the_same_network(attempt, tmp_path, step):
    whole = attempt(with_test(tmp_path, "whole"))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    stopped = attempt(with_test(tmp_path, "parts"), StopAt(look=step + 1))
    assert stopped.outcome is Outcome.PREEMPTED
    assert attempt(with_test(tmp_path, "parts")).resumed_from_step == step
    for name in ("q_policy.json", "q_network.safetensors"):
        assert sha256(artifact(tmp_path, 1)[0] / name) == sha256(artifact(tmp_path, 2)[0] / name)
    kept = json.loads((artifact(tmp_path, 1)[0] / "q_policy.json").read_text())
    assert kept["hyperparameters"]["kept_step"] in range(2, 13, 2)
