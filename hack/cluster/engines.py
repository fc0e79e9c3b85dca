"""Builders of images: docker where an engine answers, else buildah, from the same Dockerfiles.

`Buildah` also exports: an image goes into the OCI layout in the cache (layout.py), and from there
to containerd (containerd.py) without the layers that it already holds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import layout
import packages
from console import ClusterError, say
from images import Image
from settings import CACHE

_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+/\d+): (.*)")
_HOST_CERTIFICATES = Path("/etc/ssl/certs")
_SPEAK_SECONDS = 20.0
_ROOM = 15 << 30
# The layout is read once, on this machine: quick to write and to unpack counts, not size.
_FAST = ("--compression-format", "zstd", "--compression-level", "1")


def docker_answers() -> bool:
    """Whether a Docker engine can be reached."""
    if shutil.which("docker") is None:
        return False
    try:
        answer = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


class Docker:
    """Builds with the Docker engine."""

    def build(self, image: Image) -> None:
        """Build and tag one image. Raises ClusterError with the log's place."""
        command = ["docker", "build", "--progress=plain", "-t", image.name]
        command += _arguments(image)
        command += ["-f", str(image.file), str(image.context)]
        _run_build(image, command, dict(os.environ))

    def exists(self, name: str) -> bool:
        """Whether the engine holds an image of this name."""
        found = subprocess.run(
            ["docker", "image", "inspect", name], capture_output=True, check=False
        )
        return found.returncode == 0


class Buildah:
    """Builds as root without an engine, with its storage in the cache."""

    def __init__(self) -> None:
        packages.ensure(packages.IMAGE_PACKAGES)
        self._home = CACHE / "buildah"
        self._scratch = self._home / "tmp"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._share_uv_cache()

    def build(self, image: Image) -> None:
        """Build and tag one image. Raises ClusterError with the log's place."""
        command = self._command("bud", "--pull-never", "--layers", "--isolation", "chroot")
        command += ["--network", "host", "-t", image.name, *self._registry_access()]
        command += [*_arguments(image), "-f", str(image.file), str(image.context)]
        _run_build(image, command, self._environment())

    def exists(self, name: str) -> bool:
        """Whether the storage holds an image of this name."""
        command = self._command("images", "--quiet", "--filter", f"reference={name}")
        found = subprocess.run(command, capture_output=True, env=self._environment(), check=False)
        return found.returncode == 0 and bool(found.stdout.strip())

    def make_room(self) -> bool:
        """Drop the cached steps of earlier builds when the disk is nearly full; True if it did.

        The next build of a changed image then repeats its steps.
        """
        if shutil.disk_usage(self._home).free > _ROOM:
            return False
        say("images", f"less than {_ROOM >> 30} GiB free: dropping cached build steps")
        subprocess.run(
            self._command("rmi", "--prune"),
            capture_output=True,
            env=self._environment(),
            check=False,
        )
        return True

    def export(self, name: str) -> layout.Descriptor:
        """Write the image into the layout and return its manifest's descriptor."""
        log = CACHE / "logs" / "image-export.log"
        return layout.receive(lambda folder: self._push(name, folder, log))

    def _push(self, name: str, folder: Path, log: Path) -> None:
        command = self._command("push", "--quiet", *_FAST, name, f"oci:{folder}:image")
        with log.open("w") as output:
            result = subprocess.run(
                command, env=self._environment(), stdout=output, stderr=output, check=False
            )
        if result.returncode != 0:
            raise ClusterError(f"buildah could not export {name}.", log)

    def _command(self, *words: str) -> list[str]:
        storage = ["--root", str(self._home / "storage"), "--runroot", "/run/policyops-buildah"]
        return ["buildah", *storage, "--storage-driver", "overlay", *words]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self._scratch)}

    def _share_uv_cache(self) -> None:
        """Let `RUN --mount=type=cache,target=/root/.cache/uv` use this machine's own uv cache.

        buildah keeps such a mount under TMPDIR, in a folder named by its target.
        """
        shared = Path(os.environ.get("UV_CACHE_DIR") or CACHE / "uv")
        shared.mkdir(parents=True, exist_ok=True)
        mount = self._scratch / "buildah-cache" / "root" / ".cache" / "uv"
        mount.parent.mkdir(parents=True, exist_ok=True)
        if not mount.exists():
            mount.symlink_to(shared)

    def _registry_access(self) -> list[str]:
        """Mounts through which pip and uv reach the package registry just as this machine does."""
        mounts = []
        if _HOST_CERTIFICATES.is_dir():
            mounts.append(f"{_HOST_CERTIFICATES}:{_HOST_CERTIFICATES}:ro")
        bundle = _HOST_CERTIFICATES / "ca-certificates.crt"
        pip = ["[global]"]
        if bundle.exists():
            pip.append(f"cert = {bundle}")
        for option in ("index-url", "extra-index-url", "trusted-host"):
            value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}")
            if value:
                pip.append(f"{option} = {value}")
        uv = ["system-certs = true"]
        index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")
        if index:
            uv += ["[[index]]", f"url = {json.dumps(index)}", "default = true"]
        for lines, target in ((pip, "/etc/pip.conf"), (uv, "/etc/uv/uv.toml")):
            source = self._home / Path(target).name
            source.write_text("\n".join(lines) + "\n")
            mounts.append(f"{source}:{target}:ro")
        return [word for mount in mounts for word in ("-v", mount)]


def _arguments(image: Image) -> list[str]:
    return [
        word
        for name, value in sorted(image.arguments.items())
        for word in ("--build-arg", f"{name}={value}")
    ]


def _run_build(image: Image, command: list[str], environment: dict[str, str]) -> None:
    """Run a build, its output into a log and its steps onto the terminal."""
    log = CACHE / "logs" / f"image-{image.short}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = spoke = time.monotonic()
    step = "starting"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["nice", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        with log.open(errors="replace") as reader:
            while True:
                ended = process.poll() is not None
                for line in reader.read().splitlines():
                    found = _STEP.match(line)
                    if found:
                        step = f"step {found[1]}: {found[2][:80]}"
                        say("images", f"{image.short}: {step}")
                        spoke = time.monotonic()
                if ended:
                    break
                if time.monotonic() - spoke > _SPEAK_SECONDS:
                    spoke = time.monotonic()
                    say("images", f"{image.short}: {step} ({spoke - begin:.0f} s so far)")
                time.sleep(0.2)
    if process.returncode != 0:
        raise ClusterError(f"Building {image.name} failed (exit {process.returncode}).", log)
    say("images", f"{image.short}: built in {time.monotonic() - begin:.1f} s")
