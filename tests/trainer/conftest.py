"""Tests of the trainer. Those that need torch are collected only where it is installed."""

import json
from importlib.util import find_spec

import pytest
from policy_trainer import run as runs
from policy_trainer import stop

NEED_TORCH = (
    "constrained_ppo",
    "cql",
    "evaluate",
    "exports",
    "exports_networks",
    "intervals",
    "judge_commands",
    "judge_endpoint",
    "judge_local",
    "judge_runs",
    "ope",
    "ppo",
    "ranks",
    "runs",
    "s3",
    "selection",
    "tabular",
)

collect_ignore = [] if find_spec("torch") else [f"test_{name}.py" for name in NEED_TORCH]


@pytest.fixture
def attempt(monkeypatch, tmp_path):
    """Run one attempt as a worker does, in this process: the libraries are imported once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("POLICYOPS_STATE_DIR", str(tmp_path / "state"))

    def run(config, request=None):
        file = tmp_path / "run.json"
        file.write_text(json.dumps(config.to_wire()))
        monkeypatch.setenv("POLICYOPS_RUN_FILE", str(file))
        return runs.attempt(request or stop.StopRequest())

    return run
