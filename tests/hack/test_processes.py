"""Detached programs are found again, stopped by pid, and never mistaken for somebody else's."""

import json
import signal
import subprocess
import sys

import pytest
from console import ClusterError, wait_for
from processes import Daemon, end_strays

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
IGNORE_AND_SLEEP = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("armed", flush=True)
time.sleep(60)
"""
STUBBORN = [sys.executable, "-c", IGNORE_AND_SLEEP]


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon("program", tmp_path / "pids", tmp_path / "logs")
    yield daemon
    daemon.kill()


def test_a_started_program_is_found_by_another_command(daemon):
    daemon.start(SLEEP)
    again = Daemon(daemon.name, daemon.records, daemon.logs)
    assert again.pid() == daemon.pid() is not None


def test_starting_again_keeps_it_and_another_command_replaces_it(daemon):
    daemon.start(SLEEP)
    first = daemon.pid()
    daemon.start(SLEEP)
    assert daemon.pid() == first
    daemon.start([*SLEEP, "other"])
    assert daemon.pid() != first


def test_stop_ends_it_and_stopping_twice_is_harmless(daemon):
    daemon.start(SLEEP)
    daemon.stop()
    daemon.stop()
    assert daemon.pid() is None


def test_one_that_ignores_the_request_is_killed(daemon):
    daemon.start(STUBBORN)
    wait_for("it ignores signals", lambda: "armed" in daemon.log.read_text(), timeout=10)
    daemon.stop(grace=0.2)
    assert not daemon.running()


def test_a_recycled_pid_is_not_ours(daemon):
    with subprocess.Popen(SLEEP) as stranger:
        daemon.records.mkdir(parents=True)
        record = {"pid": stranger.pid, "born": 1, "command": SLEEP}
        daemon.record.write_text(json.dumps(record))
        daemon.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_torn_record_means_that_nothing_runs(daemon):
    daemon.records.mkdir(parents=True)
    daemon.record.write_text('{"pid": ')
    assert daemon.pid() is None


def test_a_program_that_does_not_exist_is_named(daemon):
    with pytest.raises(ClusterError, match="program could not be started"):
        daemon.start(["/no/such/program"])


def test_a_failure_shows_the_end_of_the_log(daemon):
    daemon.start([sys.executable, "-c", "print('the reason')"])
    with pytest.raises(ClusterError) as raised:
        wait_for("never", lambda: False, timeout=10, log=daemon.log, alive=daemon.running)
    assert "its process ended" in raised.value.sentence
    assert "the reason" in raised.value.explain()


def test_programs_whose_records_are_lost_are_ended_by_the_folder_that_they_name(tmp_path):
    lost, kept = tmp_path / "run", tmp_path / "run-of-another"
    with (
        subprocess.Popen([*SLEEP, f"{lost}/etcd"]) as stray,
        subprocess.Popen([*SLEEP, f"{kept}/etcd"]) as stranger,
    ):
        assert end_strays(lost) == [stray.pid]
        assert stray.wait() != 0
        assert stranger.poll() is None
        assert end_strays(lost) == []
        stranger.kill()


def test_a_stray_that_ignores_the_request_is_killed(tmp_path):
    with subprocess.Popen([*STUBBORN, f"{tmp_path}/x"], stdout=subprocess.PIPE) as stray:
        assert stray.stdout.readline() == b"armed\n"
        assert end_strays(tmp_path, grace=0.2) == [stray.pid]
        assert stray.wait() == -signal.SIGKILL
