"""Which checkpoints may go: decided by their markers alone, on a real folder."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from policy_api.contract.checkpoints import CheckpointRules
from policy_api.contract.environment import RULES_FILE
from policy_api.contract.run import RunTraining
from policy_trainer import checkpoint, retention, storage
from policy_trainer.process import Process
from trainer.worlds import config

pytestmark = pytest.mark.trainer

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86400


def rules(*trainings, **fields):
    made = {"cluster": "here", "retentionSeconds": DAY, "asOf": NOW.isoformat(), **fields}
    return CheckpointRules.model_validate({"trainings": trainings, **made})


def put(store, run, uid, *, age=2 * DAY, step=10, **fields):
    """Leave a complete checkpoint of a training."""
    marker = {
        "step": step,
        "savedAt": (NOW - timedelta(seconds=age)).isoformat(),
        "training": {"namespace": run.training.namespace, "name": "old", "uid": uid},
        "cluster": "here",
        "retentionSeconds": DAY,
        **fields,
    }
    folder = f"{run.policy}/checkpoints/{uid}/checkpoint-{step}"
    store.write(f"{folder}/weights", b"w" * 10)
    store.write(f"{folder}/complete.json", json.dumps(marker).encode())


def kept(store, run):
    return store.names(f"{run.policy}/checkpoints")


CASES = {
    "another-cluster": {"cluster": "there"},
    "another-namespace": {
        "training": {"namespace": "them", "name": "o", "uid": "another-namespace"}
    },
    "another-uid": {"training": {"namespace": "ml", "name": "o", "uid": "someone"}},
    "too-young": {"age": DAY - 1},
    "kept-for-longer": {"retentionSeconds": 3 * DAY},
    "saved-after-the-list": {"age": -60, "retentionSeconds": 0},
    "without-a-time": {"savedAt": None},
    "with-nonsense": {"retentionSeconds": "soon"},
}


def leave_everything(store, run):
    """Put one folder that may go, and each that may not."""
    put(store, run, "deleted", step=10)
    put(store, run, "deleted", step=20)
    for uid in ("alive", run.training.uid):
        put(store, run, uid)
    for uid, fields in CASES.items():
        put(store, run, uid, **fields)
    put(store, run, "one-is-young", step=10)
    put(store, run, "one-is-young", step=20, age=5)
    store.write(f"{run.policy}/checkpoints/torn/checkpoint-3/weights", b"w")
    store.write(f"{run.policy}/checkpoints/older/checkpoint-3/complete.json", b'{"step": 3}')
    store.write(f"{run.policy}/checkpoints/bad/checkpoint-3/complete.json", b"[1")


def test_only_what_is_surely_of_a_deleted_training_goes(tmp_path):
    run = config(tmp_path, "us")
    store = storage.open_store(run.store.path)
    leave_everything(store, run)
    assert retention.plan(store, run, rules("alive"), NOW) == ["deleted"]
    assert retention.plan(store, run, rules("alive", trainings=None), NOW) == []


def test_a_sweep_removes_the_folder_and_nothing_else(tmp_path):
    run = config(tmp_path, "us")
    store = storage.open_store(run.store.path)
    leave_everything(store, run)
    before = kept(store, run)
    retention.sweep(run, rules("alive"))  # by the real clock, later than all
    gone = {"deleted", "too-young", "kept-for-longer", "one-is-young"}
    assert set(before) - set(kept(store, run)) == gone
    assert store.read(f"{run.policy}/checkpoints/alive/checkpoint-10/weights")


def test_a_store_that_fails_fails_no_run(tmp_path, monkeypatch):
    run = config(tmp_path, "us")
    put(storage.open_store(run.store.path), run, "deleted")
    monkeypatch.setattr(storage.LocalStore, "remove", lambda *_: (_ for _ in ()).throw(OSError()))
    retention.sweep(run, rules())


def test_a_checkpoint_says_whose_it_is(tmp_path, monkeypatch):
    run = config(tmp_path, "us")
    monkeypatch.setenv("POLICYOPS_RUN_FILE", str(tmp_path / "run.json"))
    (tmp_path / RULES_FILE).write_text(json.dumps(rules("a").to_wire()))
    process = Process(0, 0, 1, on_gpu=False)
    checkpoint.Checkpoints.open(run, process).complete(7)
    store = storage.open_store(run.store.path)
    (marker,) = retention.markers(store, run.policy, run.training.uid)
    asks = RunTraining(namespace=run.training.namespace, name="next", uid="next")
    later = datetime.now(UTC) + timedelta(seconds=DAY + 5)
    asked = rules(asOf=later.isoformat())
    assert marker["step"] == 7
    assert retention.may_go(run.training.uid, [marker], asked, asks, later)
    assert not retention.may_go(run.training.uid, [marker], asked, asks, later - timedelta(days=1))


def test_the_program_removes_one_training(tmp_path, monkeypatch, capsys):
    run = config(tmp_path, "us")
    store = storage.open_store(run.store.path)
    for uid in ("failed", "other"):
        put(store, run, uid)
    monkeypatch.setattr(sys, "argv", ["retention", run.store.path, run.policy, "failed"])
    retention.main()
    retention.main()  # again, after a kill
    assert kept(store, run) == ["other"]
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize("uid", ["", ".", "..", "a/b", "/"])
def test_no_other_folder_is_removed_by_accident(uid):
    with pytest.raises(ValueError, match="is no uid"):
        checkpoint.folder_of("forge", uid)
