"""containerd, as the bare node runs it: its settings, its images, and its containers' removal."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layout
from console import ClusterError, say, wait_for
from images import PAUSE
from processes import Daemon, command_lines
from settings import CACHE, HERE, LOGS, RUN
from template import render

# Sockets live here: a path in the cache could be longer than the 107 bytes that a socket may have.
STATE = Path("/run/policyops")
SOCKET = STATE / "containerd.sock"
CNI_CONFIG = RUN / "cni"
DAEMON = Daemon("containerd", RUN / "pids", LOGS)

_NAMESPACE = "k8s.io"


def start() -> None:
    """Start containerd with our settings unless it runs, and wait until it answers."""
    STATE.mkdir(mode=0o711, parents=True, exist_ok=True)
    CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    config = RUN / "containerd.toml"
    text = render(
        HERE / "node" / "containerd.toml",
        {
            "ROOT": str(CACHE / "containerd"),
            "STATE": str(STATE / "containerd"),
            "SOCKET": str(SOCKET),
            "PAUSE": PAUSE,
            "CNI_CONFIG": str(CNI_CONFIG),
        },
    )
    if not config.exists() or config.read_text() != text:
        config.write_text(text)
        DAEMON.stop()
    DAEMON.start(["containerd", "--config", str(config)])
    wait_for(
        "containerd answers",
        answers,
        timeout=60,
        log=DAEMON.log,
        alive=DAEMON.running,
        step="node",
    )


def answers() -> bool:
    """Whether a containerd, ours or not, answers on the socket."""
    return SOCKET.exists() and _try("version") is not None


def holds(name: str, digest: str) -> bool:
    """Whether containerd has the image of this name with this manifest."""
    listing = _try("images", "list", f"name=={name}") or ""
    return digest in listing


def load(name: str, descriptor: dict[str, Any]) -> None:
    """Import an image from the layout, sending only blobs that containerd does not hold yet."""
    begin = time.monotonic()
    held = set((_try("content", "list", "--quiet") or "").split())
    manifest = json.loads(layout.blob(descriptor["digest"]).read_text())
    blobs = [descriptor, manifest["config"], *manifest["layers"]]
    missing = [blob for blob in blobs if blob["digest"] not in held]
    size = sum(blob["size"] for blob in missing) / 1e6
    say(
        "images",
        f"{name.rsplit('/', 1)[1]}: loading {len(missing)} of {len(blobs)} parts, {size:.0f} MB",
    )
    annotated = {**descriptor, "annotations": {"io.containerd.image.name": name}}
    index = {"schemaVersion": 2, "manifests": [annotated]}
    log = CACHE / "logs" / f"image-load-{name.rsplit('/', 1)[1].partition(':')[0]}.log"
    with log.open("w") as output:
        importer = subprocess.Popen(
            [*_ctr(), "images", "import", "-"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        if importer.stdin is None:
            raise ClusterError("ctr was started without an input.")
        try:
            with tarfile.open(fileobj=importer.stdin, mode="w|", bufsize=1 << 20) as archive:
                _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
                _add(archive, "index.json", json.dumps(index).encode())
                for blob in {blob["digest"]: blob for blob in missing}.values():
                    path = layout.blob(blob["digest"])
                    archive.add(path, arcname=str(path.relative_to(layout.ROOT)))
            importer.stdin.close()
        except BrokenPipeError:
            say("images", f"{name}: ctr stopped reading")
        code = importer.wait()
    if code != 0:
        raise ClusterError(f"containerd could not import {name}.", log)
    _forget_replaced()
    say("images", f"{name.rsplit('/', 1)[1]}: loaded in {time.monotonic() - begin:.1f} s")


def _forget_replaced() -> None:
    """Drop the images that lost their tag: the kubelet, told to collect none, would keep them."""
    entries = [line.split() for line in (_try("images", "list") or "").splitlines()[1:]]
    tagged = {digest for name, _, digest, *_ in entries if not name.startswith("sha256:")}
    stale = [name for name, _, digest, *_ in entries if digest not in tagged]
    if stale:
        _try("images", "remove", *stale)


def remove_containers() -> list[Path]:
    """Remove every container's record and snapshot; their processes have ended before.

    Returns the network namespaces that the pods had.
    """
    for task in (_try("tasks", "list", "--quiet") or "").split():
        _try("tasks", "delete", "--force", task)
    containers = (_try("containers", "list", "--quiet") or "").split()
    namespaces = {path for name in containers for path in _network_namespaces(name)}
    if containers:
        _try("containers", "delete", *containers)
    return sorted(namespaces)


def shims() -> Iterator[int]:
    """The pids of shims that serve our containerd, also after it crashed."""
    for pid, command in command_lines():
        words = command.split(b"\0")
        if b"containerd-shim" in words[0] and str(SOCKET).encode() in words:
            yield pid


def _network_namespaces(container: str) -> list[Path]:
    info = json.loads(_try("containers", "info", container) or "{}")
    namespaces = info.get("Spec", {}).get("linux", {}).get("namespaces", [])
    paths = [entry.get("path", "") for entry in namespaces if entry["type"] == "network"]
    return [Path(path) for path in paths if "/netns/cni-" in path]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _ctr() -> list[str]:
    return ["ctr", "--address", str(SOCKET), "--namespace", _NAMESPACE]


def _try(*words: str) -> str | None:
    """What ctr printed, or None when it failed or did not answer in time."""
    try:
        result = subprocess.run(
            [*_ctr(), *words], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return result.stdout if result.returncode == 0 else None
