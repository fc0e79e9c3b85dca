"""Debian packages of the bare node: installed only when missing, their services not started.

The node runs its own containerd with its own settings, so Debian's units must stay off. dpkg asks
`/usr/sbin/policy-rc.d` before it starts a service; where a machine has none, a temporary one that
says no stands in during the installation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console import ClusterError, say, timed
from settings import CACHE

_POLICY = Path("/usr/sbin/policy-rc.d")

# Package -> a file that it brings; the file's presence is what counts, wherever it came from.
NODE_PACKAGES: dict[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "kmod": "modprobe",
    "mount": "mount",
    "openssl": "openssl",
}
IMAGE_PACKAGES: dict[str, str] = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
# What tests need besides the binaries; where it can't be installed, those tests say so.
TEST_PACKAGES: dict[str, str] = {"postgresql": "/usr/lib/postgresql/*/bin/postgres"}


def installable() -> bool:
    """Whether `ensure` can install what is missing."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def missing(packages: dict[str, str]) -> list[str]:
    """The packages whose program is neither on PATH nor at its absolute place."""
    return [name for name, program in packages.items() if not _present(program)]


def ensure(packages: dict[str, str]) -> None:
    """Install what is missing. Raises ClusterError when apt cannot."""
    names = missing(packages)
    if not names:
        return
    if not installable():
        raise ClusterError(
            "The bare node needs root on Debian to install "
            f"{', '.join(names)}; use kind (with Docker) or CLUSTER=current elsewhere."
        )
    log = CACHE / "logs" / "apt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    say("packages", f"installing {', '.join(names)}")
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    install += ["-o", "DPkg::Lock::Timeout=600", *names]
    with timed("packages", "apt-get install"), _services_stay_off(), log.open("w") as output:
        # The package lists may be absent or old: try them as they are, then once after an update.
        if not _apt(install, output.fileno()):
            _apt(["apt-get", "update", "-q", "-o", "DPkg::Lock::Timeout=600"], output.fileno())
            if not _apt(install, output.fileno()):
                raise ClusterError(f"apt-get could not install {', '.join(names)}.", log)


def _present(program: str) -> bool:
    if program.startswith("/"):
        return any(Path("/").glob(program[1:]))
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return shutil.which(program, path=search) is not None


def _apt(command: list[str], output: int) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=False,
    )
    return result.returncode == 0


@contextmanager
def _services_stay_off() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
