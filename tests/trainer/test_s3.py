"""Artifacts and checkpoints in a bucket, of a real S3 server on loopback."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import binaries
import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from policy_trainer import artifact, retention, stop, storage
from policy_trainer import run as runs
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.process import Process
from trainer.test_retention import NOW, put, rules
from trainer.worlds import StopAt, config

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

KEYS = {"AWS_ACCESS_KEY_ID": "policyops", "AWS_SECRET_ACCESS_KEY": "for-tests-alone"}
START_SECONDS = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The URL of a bucket of a server that runs while the tests do."""
    program = binaries.ensure([binaries.S3_SERVER]) / binaries.S3_SERVER
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    keys = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"]}
    keys["ROOT_SECRET_KEY"] = KEYS["AWS_SECRET_ACCESS_KEY"]
    process = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", "posix", str(folder)],
        env={**os.environ, **keys},
        stdout=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_REGION", "us-east-1")
        pause = threading.Event()
        waits = (pause.wait(0.1) for _ in range(10 * START_SECONDS))
        assert any(answers(port) or wait for wait in waits), "the S3 server did not start"
        storage._s3().mkdir("models")
        yield "s3://models/policies"
    process.terminate()
    process.wait(10)


def test_what_is_written_is_read_listed_and_removed(bucket, tmp_path):
    store = storage.open_store(bucket)
    store.write("forge/1/policy.json", b"first")
    store.write("forge/1/policy.json", b"second")
    assert store.read("forge/1/policy.json") == b"second"
    assert store.read("forge/1/none") is None
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "weights").write_bytes(b"w" * 1000)
    store.upload(tmp_path, "forge/2")
    assert store.names("forge") == ["1", "2"]
    assert store.names("none") == []
    store.download("forge/2", tmp_path / "again")
    assert (tmp_path / "again" / "deep" / "er" / "weights").read_bytes() == b"w" * 1000
    store.remove("forge/2")
    assert store.names("forge") == ["1"]
    assert storage.read_file(f"{bucket}/forge/1/policy.json") == b"second"


def test_claims_at_once_get_numbers_of_their_own(bucket, tmp_path):
    config(tmp_path, "makes-the-data")
    store = storage.open_store(bucket)

    def claim(number):
        return artifact.claim(store, config(tmp_path, f"uid-{number}", policy="claims"))

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(claim, range(24)))
    assert sorted(numbers) == list(range(1, 25))
    assert claim(7) == numbers[7]


def test_a_run_that_was_stopped_goes_on_from_the_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("POLICYOPS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("POLICYOPS_RUN_FILE", str(tmp_path / "run.json"))

    def attempt(uid, request=None):
        store = {"uri": bucket, "path": bucket}
        wanted = config(tmp_path, uid, policy="in-a-bucket", store=store)
        (tmp_path / "run.json").write_text(json.dumps(wanted.to_wire()))
        return runs.attempt(request or stop.StopRequest())

    whole = attempt("whole")
    assert whole.outcome is Outcome.COMPLETED, whole.message
    first = attempt("parts", StopAt(look=4))
    assert (first.outcome, first.step) == (Outcome.PREEMPTED, 3)
    rest = attempt("parts")
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 3)
    store = storage.open_store(bucket)
    manifests = [
        PolicyManifest.model_validate_json(store.read(f"in-a-bucket/{number}/policy.json"))
        for number in (whole.artifact.version, rest.artifact.version)
    ]
    weights = [{f.path: f.sha256 for f in m.files}["model.safetensors"] for m in manifests]
    assert weights[0] == weights[1]
    assert store.names("in-a-bucket/checkpoints") == []


def test_what_is_kept_beside_checkpoints_is_found_by_another_pod(bucket, tmp_path):
    wanted = config(tmp_path, "beside", store={"uri": bucket, "path": bucket})
    first, second = (
        dataclasses.replace(Checkpoints.open(wanted, Process(0, 0, 1, on_gpu=False)), local=pod)
        for pod in (tmp_path / "first", tmp_path / "second")
    )
    first.beside("judge-0.jsonl").write_text("what was said")
    (first.local / "checkpoint-1").mkdir()
    (first.local / "checkpoint-1" / "weights").write_text("w")
    first.complete(1)
    assert second.beside("judge-0.jsonl").read_text() == "what was said"
    assert second.beside("judge-1.jsonl").read_text() == ""
    assert second.steps() == [1]
    second.forget()
    assert storage.open_store(bucket).names("review-forge/checkpoints") == []


def test_checkpoints_of_a_deleted_training_are_found_and_removed(bucket, tmp_path):
    run = config(tmp_path, "us", store={"uri": bucket, "path": bucket})
    store = storage.open_store(bucket)
    for uid in ("deleted", "alive", "us"):
        put(store, run, uid)
    asked = rules("alive")
    assert retention.plan(store, run, asked, NOW) == ["deleted"]
    retention.sweep(run, asked)
    left = store.names(f"{run.policy}/checkpoints")
    assert "deleted" not in left
    assert {"alive", "us"} <= set(left)
