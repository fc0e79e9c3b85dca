"""The rules sidecar between a real API server and a real Prometheus."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import binaries
import httpx
import pytest
import yaml
from controlplane import ControlPlane
from integration.client import Api, until
from integration.operator_process import REPO, free_port

PROMETHEUS = str(binaries.path("prometheus")) if binaries.path("prometheus").exists() else None
PROMETHEUS = PROMETHEUS or shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus: `make tools` builds it")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs; all end at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str, **env: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"log-{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


class Sidecar:
    """Prometheus with the sidecar beside it."""

    def __init__(self, folder: Path, kubeconfig: Path, start: Start) -> None:
        self.rules = folder / "rules"
        self.rules.mkdir()
        self.url = f"http://127.0.0.1:{free_port()}"
        self._kubeconfig = kubeconfig
        self._start = start
        self._folder = folder
        config = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [f"{self.rules}/*.yaml"],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start_prometheus(self) -> None:
        """Start Prometheus."""
        assert PROMETHEUS is not None
        self._start(
            PROMETHEUS,
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--web.enable-lifecycle",
        )

    def start_sync(self) -> subprocess.Popen[bytes]:
        """Start the sidecar."""
        return self._start(
            sys.executable,
            "-m",
            "policy_rules_sync",
            PYTHONPATH=f"{REPO}/api:{REPO}/operator",
            KUBECONFIG=str(self._kubeconfig),
            RULES_DIR=str(self.rules),
            PROMETHEUS_RELOAD_URL=f"{self.url}/-/reload",
        )

    def groups(self) -> set[str]:
        """Return the names of the rule groups that Prometheus has loaded."""
        try:
            answer = httpx.get(f"{self.url}/api/v1/rules", timeout=5)
        except httpx.TransportError:
            raise AssertionError("Prometheus does not answer") from None
        assert answer.status_code == 200
        return {group["name"] for group in answer.json()["data"]["groups"]}


def rules(namespace: str, name: str, expr: str = "vector(1) > 2", **labels: str) -> dict[str, Any]:
    """Return a ConfigMap with one rule group of its own name."""
    group = {"name": f"{namespace}.{name}", "rules": [{"alert": "A", "expr": expr}]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"policyops.dev/prometheus-rules": "true", **labels},
        },
        "data": {f"{name}.yaml": yaml.safe_dump({"groups": [group]})},
    }


@pytest.fixture
def sidecar(tmp_path: Path, control_plane: ControlPlane, start: Start) -> Sidecar:
    """Return a Prometheus and a sidecar, not started yet."""
    return Sidecar(tmp_path, control_plane.kubeconfig, start)


def test_prometheus_has_the_rules_of_the_labelled_config_maps(
    api: Api, namespace: str, sidecar: Sidecar
) -> None:
    def ours() -> set[str]:
        # Deployments of other tests have rules as well.
        return {g.partition(".")[2] for g in sidecar.groups() if g.startswith(f"{namespace}.")}

    api.create(rules(namespace, "one"))
    api.create(rules(namespace, "other", **{"policyops.dev/prometheus-rules": "no"}))
    sync = sidecar.start_sync()
    # Prometheus comes later than the sidecar: its reload is tried until it is there.
    until("the file is written", lambda: list(sidecar.rules.glob(f"{namespace}_one_*")))
    sidecar.start_prometheus()
    until("the rules are loaded", lambda: ours() == {"one"})
    api.create(rules(namespace, "two"))
    until("a new one is loaded", lambda: ours() == {"one", "two"})
    api.create(rules(namespace, "broken", expr="sum by ("))
    api.create(rules(namespace, "three"))
    until("a broken one stops nobody", lambda: ours() == {"one", "two", "three"})
    api.delete("ConfigMap", namespace, "one")
    until("a deleted one is gone", lambda: ours() == {"two", "three"})
    sync.send_signal(signal.SIGKILL)
    sync.wait()
    api.delete("ConfigMap", namespace, "two")
    api.create(rules(namespace, "four"))
    sidecar.start_sync()
    until("what happened meanwhile is made up for", lambda: ours() == {"three", "four"})


def test_a_folder_that_is_not_there_is_told(start: Start, tmp_path: Path) -> None:
    process = start(
        sys.executable,
        "-m",
        "policy_rules_sync",
        PYTHONPATH=f"{REPO}/api:{REPO}/operator",
        RULES_DIR=str(tmp_path / "nowhere"),
    )
    assert process.wait(30) == 2
    assert "is no folder" in (tmp_path / "log-0").read_text()
