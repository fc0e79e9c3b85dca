"""The frame of our own training loops: it saves, stops, goes on exactly, and ends early."""

import random

import pytest
from policy_trainer import loop as loops
from policy_trainer import process as processes
from policy_trainer.errors import PreemptedError
from policy_trainer.stop import StopRequest
from trainer.worlds import StopAt, config

pytestmark = pytest.mark.trainer

STEPS = 12


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train a number that random draws move, as a recipe would; returns (numbers, fitted)."""
    monkeypatch.setenv("POLICYOPS_STATE_DIR", str(tmp_path / "state"))

    def run(uid, stop=None, **changes):
        import torch  # noqa: PLC0415 - not in the environment of unit tests

        wanted = config(tmp_path, uid, checkpoints={"everySteps": 4, "keep": 2}, **changes)
        process = processes.join(wanted)
        random.seed(3)
        torch.manual_seed(3)
        loop = loops.Loop(wanted, process, stop or StopRequest(), STEPS)
        numbers = []
        if (folder := loop.resume()) is not None:
            numbers = loops.load_state(folder, process)["numbers"]
        for _ in loop.steps():
            numbers.append(random.random() + float(torch.rand(())))
            loop.end_step(
                {"value": numbers[-1], "count": float(len(numbers))},
                lambda folder: loops.save_state(folder, process, {"numbers": numbers}),
            )
        return numbers, loop.fitted()

    return run


@pytest.mark.parametrize("look", [2, 5, 8, 12])
def test_a_loop_that_was_stopped_goes_on_as_if_nothing_had_happened(train, look):
    whole, fitted = train("whole")
    assert (len(whole), fitted.step, fitted.resumed_from_step) == (STEPS, STEPS, None)
    with pytest.raises(PreemptedError) as stopped:
        train("parts", StopAt(look))
    assert (stopped.value.step, stopped.value.max_steps) == (look - 1, STEPS)
    rest, resumed = train("parts")
    assert rest == whole
    assert resumed.resumed_from_step == look - 1
    assert list(resumed.history) == list(fitted.history)


def test_a_stop_before_the_first_step_trains_nothing(train):
    with pytest.raises(PreemptedError, match="nothing was trained yet"):
        train("early", StopAt(1))


def test_a_stop_at_the_last_step_is_too_late_to_matter(train):
    numbers, fitted = train("late", StopAt(STEPS + 1))
    assert (len(numbers), fitted.step) == (STEPS, STEPS)


def test_its_own_metrics_can_end_it_and_the_end_is_remembered(train, tmp_path):
    rule = [{"metric": "count", "max": 4, "patience": 2}]
    numbers, fitted = train("hopeless", stopEarly=rule)
    assert (len(numbers), fitted.step) == (6, 6)
    assert fitted.stopped_early.startswith("stopped early: count was out of bounds (max 4)")
    again, resumed = train("hopeless", stopEarly=rule)
    assert (again, resumed.step) == (numbers, 6)
    assert resumed.stopped_early == fitted.stopped_early


def test_old_checkpoints_are_forgotten(train, tmp_path):
    train("tidy")
    folder = tmp_path / "policies" / "review-forge" / "checkpoints" / "tidy"
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-8"]
