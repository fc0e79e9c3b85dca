"""The programs that are built from the Go modules in `go/`, and the folder that keeps them.

All but Contour come from one module, so that what they share is compiled once; Contour's has the
same versions of all that both need but Kubernetes' own. Programs that are asked for together come
from one `go build` for each module. They are kept under `bin/programs-<hash of all that they are
made from>`, with one link for each name that calls one. A program appears there by a rename, so
nobody ever runs half a file; a lock lets several callers ask at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from console import ClusterError, say
from locks import exclusive
from settings import CACHE, HERE, KUBERNETES_VERSION

BIN = CACHE / "bin"
BUILD_LOGS = CACHE / "logs"
SOURCES = HERE / "go"

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{key}={value}"
    for key, value in {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": _MAJOR,
        "gitMinor": _MINOR,
    }.items()
)
# What `go list` and `go build` need to see the same packages: of Prometheus' service discoveries
# only that of Kubernetes.
_TAGS = ("-tags", "remove_all_sd,enable_kubernetes_sd")
# The linker drops debug information (-s -w), so the compiler need not make it.
_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {_VERSION_FLAGS}")


@dataclass(frozen=True)
class Program:
    """One executable: the package that it is built from, and the names that call it.

    `module` is the folder below `go/` of the module whose versions it takes.
    """

    package: str
    aliases: tuple[str, ...] = ()
    module: str = "."

    @property
    def file(self) -> str:
        """The executable's file name, as `go build` chooses it."""
        return Path(self.package).name

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called; an executable of several programs goes by this name."""
        return self.aliases or (self.file,)


CONTOUR = "contour"
PROGRAMS: tuple[Program, ...] = (
    Program("./etcd"),
    Program(
        "./kube",
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    ),
    # Called often, and needed without the others where the cluster is somebody else's.
    Program("k8s.io/kubernetes/cmd/kubectl"),
    Program("./pause"),
    Program("./coredns"),
    Program("github.com/prometheus/prometheus/cmd/prometheus"),
    Program("github.com/prometheus/prometheus/cmd/promtool"),
    Program("github.com/versity/versitygw/cmd/versitygw"),
    # Last: it finds what it shares with the others compiled.
    Program("github.com/projectcontour/contour/cmd/contour", module=CONTOUR),
)
NAMES: tuple[str, ...] = tuple(name for program in PROGRAMS for name in program.names)
CONTROL_PLANE: tuple[str, ...] = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
S3_SERVER = "versitygw"
PROMETHEUS: tuple[str, ...] = ("prometheus", "promtool")
# What the tests need that do not start a whole cluster.
TESTS: tuple[str, ...] = (*CONTROL_PLANE, *PROMETHEUS, S3_SERVER)
# What a node needs to become ready and to answer names, and what its addons need besides.
NODE: tuple[str, ...] = ("kube-scheduler", "kubelet", "kube-proxy", "pause", "coredns")
ADDONS: tuple[str, ...] = ("prometheus", "contour")


def key() -> str:
    """The hash that names the folder: the modules' files, the flags and the processor."""
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(SOURCES)} ".encode())
        digest.update(path.read_bytes())
    digest.update(f"{_TAGS} {_FLAGS} {PROGRAMS}".encode())
    return digest.hexdigest()[:12]


def folder() -> Path:
    """The folder of every program, whether it is built yet or not."""
    return BIN / f"programs-{key()}"


def path(name: str) -> Path:
    """Where the program of this name is, once `ensure` has made it."""
    return folder() / name


def ensure(names: Iterable[str] = NAMES) -> Path:
    """Build what is missing, all of it at once, and return the folder.

    Raises ClusterError for an unknown name, a missing Go, or a build that fails.
    """
    wanted = set(names)
    unknown = wanted - set(NAMES)
    if unknown:
        known = ", ".join(NAMES)
        raise ClusterError(f"No such binary: {', '.join(sorted(unknown))}. Known: {known}.")
    home = folder()
    programs = [program for program in PROGRAMS if wanted.intersection(program.names)]
    if _missing(programs, home):
        home.mkdir(parents=True, exist_ok=True)
        with exclusive(home / ".lock", "binaries", "waiting for another build"):
            for module, missing in groupby(_missing(programs, home), lambda p: p.module):
                _build(SOURCES / module, list(missing), home)
    return home


def module_folder(module: str, of: str = ".") -> Path:
    """The folder of a module's files, in the version that the module `of` is built with.

    Raises ClusterError when it cannot be fetched.
    """
    result = _go(SOURCES / of, "mod", "download", "-json", module)
    if result.returncode != 0:
        raise ClusterError(f"The Go module {module} cannot be fetched: {result.stderr.strip()}")
    return Path(json.loads(result.stdout)["Dir"])


def _missing(programs: Sequence[Program], home: Path) -> list[Program]:
    return [
        program for program in programs if not all((home / name).exists() for name in program.names)
    ]


def _build(module: Path, programs: list[Program], home: Path) -> None:
    BUILD_LOGS.mkdir(parents=True, exist_ok=True)
    titles = ", ".join(program.file for program in programs)
    log = BUILD_LOGS / f"go-build-{programs[0].file}.log"
    staging = home / ".building"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    begin = time.monotonic()
    packages = [program.package for program in programs]
    total = _count_packages(module, packages, titles, log)
    say("binaries", f"{titles}: compiling {total} packages, cached ones skipped")
    command = ["nice", "go", "build", "-v", *_TAGS, *_FLAGS, "-o", f"{staging}/", *packages]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=module,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stderr=output,
            stdout=output,
        )
        while True:
            try:
                code = process.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                done = len(log.read_text().splitlines())
                elapsed = time.monotonic() - begin
                say("binaries", f"{done} of at most {total} packages compiled, {elapsed:.0f} s")
    if code != 0:
        raise ClusterError(f"Building {titles} failed (go build exited {code}).", log)
    for program in programs:
        _take_over(program, staging, home)
    shutil.rmtree(staging)
    say("binaries", f"{titles}: built in {time.monotonic() - begin:.0f} s")


def _take_over(program: Program, staging: Path, home: Path) -> None:
    """Put the executable in its place, and a link beside it for each other name."""
    (staging / program.file).replace(home / program.file)
    for name in program.aliases:
        link = staging / name
        link.symlink_to(program.file)
        link.replace(home / name)


def _count_packages(module: Path, packages: list[str], titles: str, log: Path) -> int:
    """Count what the programs are made of; this downloads the modules, the network's share."""
    say("binaries", f"{titles}: fetching Go modules")
    listing = _go(module, "list", "-deps", *_TAGS, *packages)
    if listing.returncode != 0:
        log.write_text(listing.stderr)
        raise ClusterError(f"Fetching the Go modules of {titles} failed.", log)
    return len(listing.stdout.splitlines())


def _go(module: Path, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["go", *words],
            cwd=module,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError("Go is needed to build the local cluster: install go 1.26.") from error


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0"}
