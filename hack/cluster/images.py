"""The images of the cluster: what each is made of, and a key that changes when that changes.

Three kinds: the product's three images, from the Dockerfiles that users build too; the components
of the cluster, from `hack/images`; and, where no registry is reached, the base that both start
from. How they are built and loaded is engines.py's business.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import binaries
import dockerfile
import packages
from console import ClusterError, timed
from settings import CACHE, IMAGE_SOURCES, REPO

BASE = "docker.io/library/python:3.11-slim-bookworm"
PAUSE = "docker.io/policyops/pause:dev"

_SUITE = "bookworm"
_BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclass(frozen=True)
class Image:
    """One image: its full name, its Dockerfile and context, and its build arguments."""

    name: str
    file: Path
    context: Path
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The last word of the name, for people and file names."""
        return self.name.rsplit("/", 1)[1].partition(":")[0]

    def reads(self) -> dockerfile.Reads:
        """The context's files and the images that its Dockerfile reads."""
        return dockerfile.reads(self.file.read_text(), self.arguments)


PRODUCT: tuple[Image, ...] = (
    Image("docker.io/policyops/operator:dev", REPO / "Dockerfile.operator", REPO),
    Image(
        "docker.io/policyops/trainer:dev",
        REPO / "Dockerfile.trainer",
        REPO,
        {"LOCK": "hack/cpu"},
    ),
    Image(
        "docker.io/policyops/server:dev",
        REPO / "Dockerfile.server",
        REPO,
        {"TRAINER_IMAGE": "docker.io/policyops/trainer:dev"},
    ),
)

# The components of the cluster, and the binaries of ours that go into their build context.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "pause": ("pause",),
    "coredns": ("coredns",),
    "contour": ("contour",),
    "envoy": (),
    "prometheus": ("prometheus",),
    "alertmanager": (),
    "postgres": (),
}


def product(names: list[str]) -> list[Image]:
    """The product's images by their last word, all without a name; parents come first."""
    known = {image.short: image for image in PRODUCT}
    unknown = set(names) - set(known)
    if unknown:
        raise ClusterError(
            f"No such image: {', '.join(sorted(unknown))}. Known: {', '.join(known)}."
        )
    wanted = set(names or known)
    if "server" in wanted:
        wanted.add("trainer")
    chosen = [image for name, image in known.items() if name in wanted]
    for image in chosen:
        if not image.file.exists():
            raise ClusterError(f"{image.file} does not exist, so {image.name} has no source.")
    return chosen


def components(names: tuple[str, ...]) -> Iterator[Image]:
    """The cluster's own images, each with its build context laid out when its turn comes."""
    return (_component(name) for name in names)


def _component(name: str) -> Image:
    source = IMAGE_SOURCES / name
    needed = COMPONENTS[name]
    binaries.ensure(needed)
    context = CACHE / "images" / "context" / name
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(source, context)
    for binary in needed:
        shutil.copy2(binaries.path(binary).resolve(), context / binary)
    return Image(f"docker.io/policyops/{name}:dev", context / "Dockerfile", context)


def key(image: Image, parents: dict[str, str]) -> str:
    """The hash of all that the image is made from; `parents` maps image names to their keys."""
    digest = hashlib.sha256()
    digest.update(image.file.read_bytes())
    digest.update(json.dumps(image.arguments, sort_keys=True).encode())
    found = image.reads()
    for name in found.images:
        digest.update(f"{name}={parents.get(name, '')}\n".encode())
    for pattern in found.files:
        for path in _expand(image, pattern):
            digest.update(f"{path.relative_to(image.context)} {path.stat().st_mode:o}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _expand(image: Image, pattern: str) -> Iterator[Path]:
    matches = sorted(image.context.glob(pattern.strip("/") or "."))
    if not matches:
        raise ClusterError(f"{image.file.name} copies {pattern}, which does not exist.")
    for match in matches:
        files = [match] if match.is_file() else sorted(match.rglob("*"))
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path


def base_key() -> str:
    """The key of the base that mmdebstrap makes."""
    recipe = f"{_SUITE} {_BASE_PACKAGES} {_LEFT_OUT} {platform.machine()}".encode()
    recipe += (IMAGE_SOURCES / "base" / "Dockerfile").read_bytes()
    return hashlib.sha256(recipe).hexdigest()[:16]


def base() -> Image:
    """The base image's context, with the file system made by mmdebstrap unless it is cached."""
    context = CACHE / "images" / f"base-{base_key()}"
    archive = context / "base.tar"
    if not archive.exists():
        packages.ensure(packages.IMAGE_PACKAGES)
        context.mkdir(parents=True, exist_ok=True)
        _mmdebstrap(archive)
    shutil.copy2(IMAGE_SOURCES / "base" / "Dockerfile", context / "Dockerfile")
    return Image(BASE, context / "Dockerfile", context)


def _mmdebstrap(archive: Path) -> None:
    log = CACHE / "logs" / "mmdebstrap.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(".base.tar.building")
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--include={_BASE_PACKAGES}"]
    # A file system that is thrown away when packing fails need not reach the disk file by file.
    command += ["--dpkgopt=force-unsafe-io"]
    for pattern in _LEFT_OUT:
        command.append(f"--dpkgopt=path-exclude={pattern}")
    sources = _apt_sources()
    command += [_SUITE, str(temporary), *(["-"] if sources else [])]
    with timed("images", "making the base image with mmdebstrap"), log.open("w") as output:
        result = subprocess.run(
            command, input=sources, text=True, stdout=output, stderr=output, check=False
        )
    if result.returncode != 0:
        raise ClusterError("mmdebstrap could not make the base image.", log)
    temporary.replace(archive)


def _apt_sources() -> str:
    """The Debian sources that this machine itself uses, as sources.list lines; may be empty."""
    form = "$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    lines = []
    for line in listing.stdout.splitlines():
        origin, _, source = line.partition("|")
        words = source.split()
        if origin == "Debian" and words[2].startswith(_SUITE):
            lines.append(source)
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))
