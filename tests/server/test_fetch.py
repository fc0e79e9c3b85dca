"""The program that has an artifact checked for an engine that is not ours."""

import os
import subprocess
import sys
from pathlib import Path

from policy_api import keys
from server.artifacts import environment, write_artifact

FILES = {
    "model.safetensors": b"weights",
    "exports/model.gguf": b"GGUF",
    "bundle/report.html": b"<html>",
}


def fetch(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it as the pod does."""
    return subprocess.run(
        [sys.executable, "-m", "policy_server.fetch"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_remote_artifact_is_there_with_its_exports(tmp_path: Path):
    sha256 = write_artifact(tmp_path / "store", FILES)
    pod = tmp_path / "pod"
    env = environment(f"local://{tmp_path / 'store'}", sha256, DOWNLOAD_FOLDER=str(pod))
    done = fetch(env)
    assert done.returncode == keys.EXIT_SUCCEEDED, done.stderr
    found = {p.relative_to(pod / sha256).as_posix() for p in pod.rglob("*") if p.is_file()}
    assert found == {"model.safetensors", "exports/model.gguf"}
    assert fetch(env).returncode == keys.EXIT_SUCCEEDED, "a pod that starts again finds them"


def test_a_volume_is_checked_and_left_as_it_is(tmp_path: Path):
    sha256 = write_artifact(tmp_path / "volume", FILES)
    env = environment(tmp_path / "volume", sha256, DOWNLOAD_FOLDER=str(tmp_path / "unused"))
    assert fetch(env).returncode == keys.EXIT_SUCCEEDED
    assert not (tmp_path / "unused").exists()


def test_what_was_changed_is_refused_with_a_sentence(tmp_path: Path):
    sha256 = write_artifact(tmp_path / "volume", FILES)
    (tmp_path / "volume" / "exports" / "model.gguf").write_bytes(b"GGUX")
    log = tmp_path / "termination-log"
    log.touch()
    env = environment(tmp_path / "volume", sha256, TERMINATION_LOG=str(log))
    assert fetch(env).returncode == keys.EXIT_DATA_INVALID
    assert log.read_text().startswith("exports/model.gguf has sha256")
    log.write_text("")
    assert fetch({**env, "POLICY_VERSION": "x"}).returncode == keys.EXIT_CONFIG_INVALID
    assert "POLICY_VERSION must be a number" in log.read_text()
