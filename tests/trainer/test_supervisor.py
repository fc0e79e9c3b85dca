"""PID 1 turns what became of its workers into an exit code and a termination message."""

import json
import os
import signal
import subprocess
import sys

import pytest
from policy_api.base import Metric
from policy_api.contract.report import EXIT_CODES, Outcome, TrainingReport
from policy_trainer import supervisor
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.run import read_config
from policy_trainer.supervisor import Ended
from trainer.worlds import config

# Outside of a container the supervisor is not PID 1; a subreaper is handed orphans all the same.
START = """
import ctypes, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
from policy_trainer import supervisor
supervisor.WORKER = "trainer.scripted_worker"
sys.exit(supervisor.main())
"""


class Pod:
    """A supervisor as a real process, with a scripted worker."""

    def __init__(self, tmp_path, script):
        (tmp_path / "run.json").write_text(json.dumps(config(tmp_path, "uid").to_wire()))
        self.log = tmp_path / "termination-log"
        self.process = subprocess.Popen(
            [sys.executable, "-c", START],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "POLICYOPS_RUN_FILE": str(tmp_path / "run.json"),
                "POLICYOPS_STATE_DIR": str(tmp_path / "state"),
                "POLICYOPS_TERMINATION_LOG": str(self.log),
                "SCRIPT": script,
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, words):
        """Read the pod's log up to the line that has these words."""
        return next(line for line in self.process.stdout if words in line)

    def end(self):
        """Wait for its end; return the exit code and the termination message."""
        self.process.communicate(timeout=60)
        return self.process.returncode, TrainingReport.model_validate_json(self.log.read_text())


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_exit_code_and_its_sentence(tmp_path, outcome):
    code, report = Pod(tmp_path, outcome.value).end()
    assert code == EXIT_CODES[outcome]
    assert report.outcome is outcome
    assert report.message == "a sentence"
    assert report.field == "data[train] row 3"


def test_a_worker_that_dies_without_a_word_is_a_crash(tmp_path):
    code, report = Pod(tmp_path, "crash").end()
    assert code == 70
    assert report.outcome is Outcome.TRAINER_FAILED
    assert "exit code 1" in report.message


def test_a_worker_that_dies_of_a_signal_names_it(tmp_path):
    code, report = Pod(tmp_path, "segfault").end()
    assert code == 70
    assert f"signal {int(signal.SIGSEGV)}" in report.message


def test_a_worker_that_dies_after_it_claimed_success_has_failed(tmp_path):
    code, report = Pod(tmp_path, "lie").end()
    assert code == 70
    assert "exit code 3" in report.message


def test_a_stop_reaches_the_worker_and_its_outcome_comes_back(tmp_path):
    pod = Pod(tmp_path, "wait")
    pod.until("worker started")
    pod.process.send_signal(signal.SIGTERM)
    code, report = pod.end()
    assert code == 75
    assert (report.outcome, report.step, report.max_steps) == (Outcome.PREEMPTED, 4, 9)


def test_a_stop_before_the_worker_could_say_anything_is_a_preemption(tmp_path):
    pod = Pod(tmp_path, "wait-silently")
    pod.until("starting")  # not the worker, whose imports may take long
    pod.process.send_signal(signal.SIGTERM)
    code, report = pod.end()
    assert code == 75
    assert report.message == "stopped on request before the first step"


def test_orphans_are_reaped_and_do_not_change_the_outcome(tmp_path):
    code, report = Pod(tmp_path, "orphan").end()
    assert (code, report.step) == (0, 3)


def test_a_config_that_cannot_be_read_names_the_field(tmp_path):
    (tmp_path / "run.json").write_text('{"policy": "p"}')
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "POLICYOPS_RUN_FILE": str(tmp_path / "run.json"),
        "POLICYOPS_TERMINATION_LOG": str(tmp_path / "log"),
    }
    done = subprocess.run([sys.executable, "-m", "policy_trainer.supervisor"], env=env, check=False)
    assert done.returncode == 78
    report = TrainingReport.model_validate_json((tmp_path / "log").read_text())
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.field == "recipe"


def test_a_run_of_a_newer_operator_is_read_and_of_a_later_version_refused(tmp_path, monkeypatch):
    run = config(tmp_path, "uid").to_wire()
    file = tmp_path / "run.json"
    monkeypatch.setenv("POLICYOPS_RUN_FILE", str(file))
    file.write_text(json.dumps({**run, "telemetry": {"endpoint": "x"}}))
    assert read_config().to_wire() == run
    file.write_text(json.dumps({**run, "schemaVersion": 2}))
    with pytest.raises(ConfigInvalidError, match=r"schemaVersion 2, this reads 1: set spec\."):
        read_config()


KILLED = Ended(code=None, signal=signal.SIGKILL)
FAILED = Ended(code=1, signal=None)
WELL = Ended(code=0, signal=None)


def said(*outcomes):
    return [TrainingReport(outcome=outcome) for outcome in outcomes]


@pytest.mark.parametrize(
    ("outcomes", "ended", "stopping", "kills", "wanted"),
    [
        (said(Outcome.COMPLETED, Outcome.COMPLETED), WELL, False, 0, Outcome.COMPLETED),
        (said(Outcome.COMPLETED), WELL, True, 0, Outcome.COMPLETED),
        ([], KILLED, False, None, Outcome.OUT_OF_MEMORY),
        ([], KILLED, False, 0, Outcome.TRAINER_FAILED),
        ([], FAILED, False, 1, Outcome.OUT_OF_MEMORY),  # torchrun's child was killed
        (said(Outcome.TRAINER_FAILED), FAILED, False, 1, Outcome.OUT_OF_MEMORY),
        (
            said(Outcome.TRAINER_FAILED, Outcome.DATA_INVALID),
            FAILED,
            False,
            0,
            Outcome.DATA_INVALID,
        ),
        (said(Outcome.PREEMPTED, Outcome.TRAINER_FAILED), FAILED, True, 0, Outcome.TRAINER_FAILED),
        (said(Outcome.PREEMPTED, Outcome.PREEMPTED), FAILED, True, 0, Outcome.PREEMPTED),
        (said(Outcome.COMPLETED), FAILED, False, 0, Outcome.TRAINER_FAILED),
        ([], FAILED, True, 0, Outcome.PREEMPTED),
        ([], FAILED, False, 0, Outcome.TRAINER_FAILED),
    ],
)
def test_the_pods_outcome_is_the_gravest_of_its_workers(outcomes, ended, stopping, kills, wanted):
    report = supervisor.judge(outcomes, ended, stopping=stopping, kills=kills)
    assert report.outcome is wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("low 0\nhigh 3\noom 2\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
        ("low 0\n", None),
    ],
)
def test_kills_for_memory_are_read_from_either_cgroup_version(tmp_path, content, wanted):
    (tmp_path / "events").write_text(content)
    assert supervisor.oom_kills([tmp_path / "none", tmp_path / "events"]) == wanted
    assert supervisor.oom_kills([tmp_path / "none"]) is None


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        (["50000 100000\n"], 0.5),
        (["max 100000\n"], None),
        (["150000\n", "100000\n"], 1.5),
        (["-1\n", "100000\n"], None),
    ],
)
def test_the_containers_limit_says_how_many_cores_there_are(tmp_path, contents, wanted):
    files = [tmp_path / str(n) for n in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_text(content)
    machine = len(os.sched_getaffinity(0))
    assert supervisor.cores([files]) == (min(wanted, machine) if wanted else machine)


@pytest.mark.parametrize(
    ("compute", "launched"),
    [
        ({}, False),
        ({"processesPerNode": 2}, True),
        ({"nodes": 2}, True),
        ({"deepspeed": {"stage": 2}}, True),
        ({"gpusPerNode": 1}, False),
        ({"gpusPerNode": 4}, True),
    ],
)
def test_several_processes_or_deepspeed_go_through_torchrun(tmp_path, compute, launched):
    words = supervisor.command(config(tmp_path, "uid", compute=compute))
    assert ("torch.distributed.run" in words) is launched
    assert words[-2:] == ["-m", "policy_trainer.run"]


def test_a_termination_message_has_at_most_4096_bytes(tmp_path):
    metrics = tuple(
        Metric(name=f"metric_{n}_" + "x" * 40, value=0.123456, low=0.1, high=0.2) for n in range(90)
    )
    report = TrainingReport(outcome=Outcome.TRAINER_FAILED, message="é" * 9000, metrics=metrics)
    text = report.encode()
    assert len(text.encode()) <= 4096
    read = TrainingReport.model_validate_json(text)
    assert read.outcome is Outcome.TRAINER_FAILED
    assert read.message.startswith("éééé")
    assert read.metrics == metrics[: len(read.metrics)]
