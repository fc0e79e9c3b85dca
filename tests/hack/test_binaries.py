"""Programs are built together, appear whole with all their names, and are built once."""

import os
import subprocess
from pathlib import Path

import binaries
import pytest
from console import ClusterError

# Stands in for the compiler, which takes minutes: notes its calls, and writes what `-o` asks for.
GO = """#!/bin/sh
echo "$PWD $*" >> "$CALLS"
[ "$1" = list ] && exit 0
[ -n "$FAIL" ] && { echo "does not compile" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
folder=$2
shift 2
for package; do echo program > "$folder/$(basename "$package")"; done
"""


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """The builds so far, as the folder of the module and the packages; Go is played."""
    calls = tmp_path / "calls"
    program = tmp_path / "path" / "go"
    program.parent.mkdir()
    program.write_text(GO)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("FAIL", "")
    monkeypatch.setattr(binaries, "BIN", tmp_path / "bin")
    monkeypatch.setattr(binaries, "BUILD_LOGS", tmp_path / "logs")

    def builds() -> list[tuple[str, list[str]]]:
        lines = calls.read_text().splitlines() if calls.exists() else []
        found = [line.split() for line in lines if line.split()[1] == "build"]
        return [(Path(words[0]).name, words[words.index("-o") + 2 :]) for words in found]

    return builds


def test_one_build_for_all_that_is_asked_for(builds):
    folder = binaries.ensure(binaries.CONTROL_PLANE)
    assert builds() == [("go", ["./etcd", "./kube", "k8s.io/kubernetes/cmd/kubectl"])]
    assert all((folder / name).read_text() == "program\n" for name in binaries.CONTROL_PLANE)
    # The same executable under other names: nothing is left to build.
    binaries.ensure(["kubelet", "kube-proxy"])
    assert len(builds()) == 1
    assert (folder / "kubelet").resolve() == (folder / "kube-apiserver").resolve()


def test_only_what_is_missing_is_built_and_each_module_by_itself(builds):
    binaries.ensure(["prometheus"])
    binaries.ensure(["contour", "prometheus", "pause"])
    assert builds()[1:] == [
        ("go", ["./pause"]),
        ("contour", ["github.com/projectcontour/contour/cmd/contour"]),
    ]


def test_tests_get_promtool_and_no_gateway(builds):
    folder = binaries.ensure(binaries.TESTS)
    assert (folder / "promtool").exists()
    assert not (folder / "contour").exists()
    assert len(builds()) == 1


def test_a_failed_build_leaves_no_program_and_shows_why(builds, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(ClusterError) as raised:
        binaries.ensure(["etcd"])
    assert "does not compile" in raised.value.explain()
    assert not binaries.path("etcd").exists()
    monkeypatch.setenv("FAIL", "")
    binaries.ensure(["etcd"])
    assert binaries.path("etcd").exists()


def test_an_unknown_program_is_refused_with_the_known_ones(builds):
    with pytest.raises(ClusterError, match="etcd, kube-apiserver"):
        binaries.ensure(["etcdd"])
    assert builds() == []


def test_a_link_runs_the_executable(builds):
    folder = binaries.ensure(["kubelet"])
    (folder / "kube").write_text("#!/bin/sh\necho $(basename $0)\n")
    (folder / "kube").chmod(0o755)
    done = subprocess.run([folder / "kubelet"], capture_output=True, text=True, check=True)
    assert done.stdout == "kubelet\n"
