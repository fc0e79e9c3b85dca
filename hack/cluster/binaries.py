"""The programs that are built from Go modules, and the folder in the cache that keeps them.

A tool set is a folder under `go/` with a committed `go.mod` and `go.sum`. Its binaries are kept
under `bin/<set>-<hash of go.mod, go.sum and the build flags>`; `bin/<hash of all sets>` holds one
link to each, and is the folder that callers are given. A binary appears there by a rename, so
nobody ever runs half a file; a lock per set lets several callers ask at once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError, say
from locks import exclusive
from settings import CACHE, HERE, KUBERNETES_VERSION

BIN = CACHE / "bin"
BUILD_LOGS = CACHE / "logs"

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{key}={value}"
    for key, value in {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": _MAJOR,
        "gitMinor": _MINOR,
    }.items()
)


@dataclass(frozen=True)
class Tool:
    """One binary: its name, the tool set (folder under `go/`) and the package it is built from."""

    name: str
    set: str
    package: str
    ldflags: str = "-s -w"
    tags: str = ""

    @property
    def flags(self) -> list[str]:
        """What `go list` and `go build` need to see the same packages."""
        return ["-tags", self.tags] if self.tags else []


def _kubernetes(name: str) -> Tool:
    return Tool(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", f"-s -w {_VERSION_FLAGS}")


# In the order in which they are wanted: the integration tests need the first four.
TOOLS: tuple[Tool, ...] = (
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubectl"),
    _kubernetes("kubelet"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    Tool("contour", "contour", "github.com/projectcontour/contour/cmd/contour"),
    Tool("coredns", "coredns", "github.com/coredns/coredns"),
    Tool(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        tags="remove_all_sd,enable_kubernetes_sd",
    ),
    Tool("pause", "pause", "."),
    Tool("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw"),
)
NAMES: tuple[str, ...] = tuple(tool.name for tool in TOOLS)
CONTROL_PLANE: tuple[str, ...] = NAMES[:4]
S3_SERVER = "versitygw"
NODE: tuple[str, ...] = tuple(name for name in NAMES if name != S3_SERVER)  # what a node needs


def source(tool_set: str) -> Path:
    """The folder with the tool set's go.mod."""
    return HERE / "go" / tool_set


def key(tool_set: str) -> str:
    """The hash that names a set's folder: go.mod, go.sum, the flags and the processor."""
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted(source(tool_set).iterdir()):
        digest.update(path.read_bytes())
    for tool in TOOLS:
        if tool.set == tool_set:
            digest.update(f"{tool.name} {tool.package} {tool.ldflags} {tool.tags}\n".encode())
    return digest.hexdigest()[:12]


def folder() -> Path:
    """The folder that holds a link to every binary, whether it is built yet or not."""
    sets = sorted({tool.set for tool in TOOLS})
    digest = hashlib.sha256(" ".join(key(name) for name in sets).encode())
    return BIN / digest.hexdigest()[:12]


def path(name: str) -> Path:
    """Where the binary of this name is, once `ensure` has made it."""
    return folder() / name


def ensure(names: Iterable[str] = NAMES) -> Path:
    """Build what is missing, in the order of TOOLS, and return the folder.

    Raises ClusterError for an unknown name, a missing Go, or a build that fails.
    """
    wanted = set(names)
    unknown = wanted - set(NAMES)
    if unknown:
        known = ", ".join(NAMES)
        raise ClusterError(f"No such binary: {', '.join(sorted(unknown))}. Known: {known}.")
    tools = [tool for tool in TOOLS if tool.name in wanted]
    missing = [tool for tool in tools if not path(tool.name).exists()]
    for number, tool in enumerate(missing, start=1):
        _ensure_one(tool, f"{number} of {len(missing)}")
    return folder()


def _ensure_one(tool: Tool, position: str) -> None:
    home = BIN / f"{tool.set}-{key(tool.set)}"
    home.mkdir(parents=True, exist_ok=True)
    binary = home / tool.name
    waiting = f"{tool.name}: waiting for another build of the same set"
    with exclusive(home / ".lock", "binaries", waiting):
        if not binary.exists():
            _build(tool, binary, position)
    link = path(tool.name)
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{tool.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.symlink_to(binary)
    temporary.replace(link)


def _build(tool: Tool, binary: Path, position: str) -> None:
    BUILD_LOGS.mkdir(parents=True, exist_ok=True)
    log = BUILD_LOGS / f"go-build-{tool.name}.log"
    temporary = binary.with_name(f".{tool.name}.building")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    begin = time.monotonic()
    try:
        total = _count_packages(tool, environment, log)
        say(
            "binaries", f"{tool.name} ({position}): compiling {total} packages, cached ones skipped"
        )
        command = ["nice", "go", "build", "-v", "-trimpath", *tool.flags, "-ldflags", tool.ldflags]
        command += ["-o", str(temporary), tool.package]
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=source(tool.set),
                env=environment,
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
                    say(
                        "binaries",
                        f"{tool.name} ({position}): {done} of at most {total} packages "
                        f"compiled, {elapsed:.0f} s",
                    )
    except FileNotFoundError as error:
        raise ClusterError("Go is needed to build the local cluster: install go 1.26.") from error
    if code != 0:
        raise ClusterError(f"Building {tool.name} failed (go build exited {code}).", log)
    temporary.replace(binary)
    say("binaries", f"{tool.name} ({position}): built in {time.monotonic() - begin:.0f} s")


def _count_packages(tool: Tool, environment: dict[str, str], log: Path) -> int:
    """Count what the binary is made of; this downloads the modules, the network's share."""
    say("binaries", f"{tool.name}: fetching its Go modules")
    with log.open("w") as output:
        listing = subprocess.run(
            ["go", "list", "-deps", *tool.flags, tool.package],
            cwd=source(tool.set),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            check=False,
        )
    if listing.returncode != 0:
        raise ClusterError(f"Fetching the Go modules of {tool.name} failed.", log)
    return len(listing.stdout.splitlines())
