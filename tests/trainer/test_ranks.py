"""Two ranks under torchrun and DeepSpeed ZeRO-2 on loopback: they learn, and stop together."""

import json
import os
import signal
import subprocess
import sys

import pytest
from policy_api.contract.report import Outcome, TrainingReport
from trainer.judge_server import WRITTEN, serve
from trainer.worlds import config, sha256

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]


def environment(folder):
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "POLICYOPS_STATE_DIR": str(folder / "state"),
        "POLICYOPS_RUN_FILE": str(folder / "run.json"),
        "POLICYOPS_TERMINATION_LOG": str(folder / "termination-log"),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder and the reports of the runs in ranks.py, and what their judge was asked."""
    folder = tmp_path_factory.mktemp("ranks")
    config(folder, "makes-the-data")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with serve() as judge:
        subprocess.run(
            [*launch, "-m", "trainer.ranks", str(folder), judge.url],
            env=environment(folder),
            check=True,
        )
    reports = json.loads((folder / "reports.json").read_text())
    made = {name: TrainingReport.model_validate(r) for name, r in reports.items()}
    return folder, made, judge.requests


@pytest.mark.parametrize(
    ("recipe", "stopped", "steps"), [("sft", 3, 6), ("grpo", 2, 4), ("ppo", 2, 4)]
)
def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on_bit_exactly(
    ended, recipe, stopped, steps
):
    folder, reports, _ = ended
    whole, part, rest = (reports[f"{recipe}-{n}"] for n in ("whole", "stopped", "resumed"))
    assert (whole.outcome, whole.step, whole.resumed_from_step) == (Outcome.COMPLETED, steps, None)
    assert (part.outcome, part.step, part.max_steps) == (Outcome.PREEMPTED, stopped, steps)
    assert (rest.outcome, rest.step) == (Outcome.COMPLETED, steps)
    assert rest.resumed_from_step == stopped
    weights = [
        folder / "policies" / "review-forge" / str(r.artifact.version) / "model.safetensors"
        for r in (whole, rest)
    ]
    assert sha256(weights[0]) == sha256(weights[1])
    assert whole.metrics == rest.metrics


@pytest.mark.parametrize("name", ["ppo-plain", "dpo-whole", "reward-whole"])
def test_other_recipes_run_on_two_ranks(ended, name):
    _, reports, _ = ended
    assert reports[name].outcome is Outcome.COMPLETED
    assert reports[name].metrics


def test_what_the_judges_of_all_ranks_took_is_added_up(ended):
    _, reports, asked = ended
    metrics = {metric.name: metric.value for metric in reports["grpo-judged"].metrics}
    assert metrics["judge_requests"] == len(asked) > 0
    assert metrics["judge_output_tokens"] == WRITTEN * len(asked)


def test_zero3_trains_the_same_and_rank_0_evaluates_alone(ended):
    _, reports, _ = ended
    whole, zero3 = (
        {m.name: m.value for m in reports[name].metrics} for name in ("sft-whole", "sft-zero3")
    )
    assert zero3 == pytest.approx(whole, rel=0.05)


def test_an_artifact_has_nothing_of_an_earlier_run_in_the_same_process(ended):
    folder, reports, _ = ended
    version = reports["reward-whole"].artifact.version
    made = folder / "policies" / "review-forge" / str(version)
    assert (made / "model.safetensors").is_file()
    assert not list(made.glob("adapter*"))


def test_a_reward_model_scores_whole_under_zero3(ended):
    report = ended[1]["grpo-zero3"]
    assert (report.outcome, report.step) == (Outcome.COMPLETED, 4), report.message


def test_a_pod_that_is_told_to_stop_saves_exits_75_and_its_next_attempt_ends_the_run(tmp_path):
    """The whole chain: supervisor, torchrun, two ranks, SIGTERM to PID 1 alone."""
    compute = {"processesPerNode": 2, "deepspeed": {"stage": 2}}
    steps = {"maxSteps": 40, "learningRate": 0.01, "batchSize": 4, "maxLength": 64}
    (tmp_path / "run.json").write_text(
        json.dumps(config(tmp_path, "uid", compute=compute, sft=steps).to_wire())
    )

    def attempt():
        return subprocess.Popen(
            [sys.executable, "-m", "policy_trainer.supervisor"],
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def report():
        return TrainingReport.model_validate_json((tmp_path / "termination-log").read_text())

    first = attempt()
    for line in first.stdout:
        if "step 5/40" in line:
            first.send_signal(signal.SIGTERM)
            break
    log, _ = first.communicate(timeout=300)
    assert first.returncode == 75, log
    stopped = report()
    assert (stopped.outcome, stopped.max_steps) == (Outcome.PREEMPTED, 40)
    assert 5 <= stopped.step < 40

    second = attempt()
    log, _ = second.communicate(timeout=300)
    assert second.returncode == 0, log
    done = report()
    assert (done.outcome, done.step) == (Outcome.COMPLETED, 40)
    assert done.resumed_from_step == stopped.step
    assert done.artifact.version == 1
