"""The bare node: a one-node Kubernetes made of processes of this machine, with real containers.

`start` brings it up from any state, also after a crash in the middle; `stop` takes everything back
but the cache. Each program's settings are the files in `node/`, filled with this machine's values.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import binaries
import containerd
import network
import packages
from certificates import Authority
from console import ClusterError, say, timed, wait_for
from controlplane import ControlPlane, Options
from processes import Daemon, end_strays
from settings import (
    CACHE,
    CLUSTER_DOMAIN,
    DNS_SERVICE_IP,
    HERE,
    KUBECONFIG,
    LOGS,
    POD_SUBNET,
    RUN,
    VOLUMES,
)
from template import render

NODE = "policyops-local"
API_PORT = 6443

_SYSTEM_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"
_KUBELET_ROOT = RUN / "kubelet"
# There once this cache started the machine's node: only then may it take one away.
_OWNED = RUN / "owns-the-node"
_LEASES = RUN / "cni-leases"
_FORWARD_BEFORE = RUN / "ip_forward.before"
_CGROUPS = Path("/sys/fs/cgroup")
_KUBELET_PORT = 10250


def _daemon(name: str) -> Daemon:
    return Daemon(name, RUN / "pids", LOGS)


KUBELET = _daemon("kubelet")
SCHEDULER = _daemon("kube-scheduler")
PROXY = _daemon("kube-proxy")


def control_plane() -> ControlPlane:
    """The node's control plane; its folder is part of the run."""
    options = Options(advertise=network.node_address(), port=API_PORT)
    return ControlPlane(RUN / "controlplane", options)


def check() -> None:
    """Refuse a machine that can't be the node, or is one already, of somebody else.

    Ports, sockets, control groups and packet filter rules belong to the machine, so it holds one
    node; which cache started it is remembered in that cache.

    Raises:
        ClusterError: with what stands in the way.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "A bare node needs root; as another user install Docker and kind, "
            "or use your own cluster with CLUSTER=current."
        )
    _check_port(API_PORT, ControlPlane(RUN / "controlplane").apiserver)
    _check_port(_KUBELET_PORT, KUBELET)
    if not containerd.DAEMON.running() and containerd.answers():
        raise ClusterError(
            f"A node that another cache than {CACHE} started runs here: stop it with `down` and "
            "the POLICYOPS_CACHE with which it was started."
        )


def _check_port(port: int, daemon: Daemon) -> None:
    if daemon.running():
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise ClusterError(
                f"Port {port}, which {daemon.name} needs, is taken: another Kubernetes runs here. "
                "Use it with CLUSTER=current, or stop it."
            ) from error


def start_control_plane() -> ControlPlane:
    """Start etcd, API server, controller manager and scheduler, and publish the kubeconfig."""
    plane = control_plane()
    with timed("node", "control plane"):
        plane.start()
        authority = plane.authority()
        name = "system:kube-scheduler"
        config = authority.kubeconfig(
            plane.folder / "scheduler.kubeconfig",
            plane.server,
            authority.issue("scheduler", name, organization=name),
            name,
        )
        binaries.ensure(["kube-scheduler"])
        SCHEDULER.start(
            [
                str(binaries.path("kube-scheduler")),
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
            ]
        )
    shutil.copy2(plane.kubeconfig, KUBECONFIG)
    return plane


def start_containerd() -> None:
    """Install what the node needs from Debian and start containerd."""
    check()
    packages.ensure(packages.NODE_PACKAGES)
    if not containerd.DAEMON.running() and not list(containerd.shims()):
        # After a crash or a reboot no pod holds an address any more, whatever the leases say.
        shutil.rmtree(_LEASES, ignore_errors=True)
    RUN.mkdir(parents=True, exist_ok=True)
    _OWNED.touch()
    containerd.start()


def start_node(plane: ControlPlane) -> None:
    """Start kubelet and kube-proxy and wait until the node is Ready."""
    authority = plane.authority()
    address = network.node_address()
    binaries.ensure(["kubelet", "kube-proxy"])
    _write_cni()
    network.open_pod_network(_FORWARD_BEFORE)
    path = {"PATH": f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATHS}"}
    with timed("node", "kubelet and kube-proxy"):
        KUBELET.start(_kubelet(plane, authority, address), path)
        PROXY.start(_proxy(plane, authority), path)
        wait_for(
            "the node is Ready",
            lambda: _ready(plane),
            timeout=120,
            log=KUBELET.log,
            alive=KUBELET.running,
            step="node",
            every=0.3,
        )


def _configure(daemon: Daemon, path: Path, text: str) -> None:
    """Write a configuration file; the program that read another one has to start again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        daemon.stop()


def _write_cni() -> None:
    target = containerd.CNI_CONFIG / "10-policyops.conflist"
    values = {"LEASES": str(_LEASES), "POD_SUBNET": POD_SUBNET}
    containerd.CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    target.write_text(render(HERE / "node" / "cni.conflist", values))


def _kubelet(plane: ControlPlane, authority: Authority, address: str) -> list[str]:
    user = f"system:node:{NODE}"
    pair = authority.issue(
        "kubelet", user, organization="system:nodes", hosts=(NODE,), addresses=(address,)
    )
    config = RUN / "kubelet.yaml"
    _configure(
        KUBELET,
        config,
        render(
            HERE / "node" / "kubelet.yaml",
            {
                "SOCKET": str(containerd.SOCKET),
                "DNS_SERVICE_IP": DNS_SERVICE_IP,
                "CLUSTER_DOMAIN": CLUSTER_DOMAIN,
                "RESOLV_CONF": str(_resolv_conf()),
                "CA": str(authority.ca.certificate),
                "CERTIFICATE": str(pair.certificate),
                "KEY": str(pair.key),
                "POD_LOGS": str(LOGS / "pods"),
                "PLUGINS": str(_KUBELET_ROOT / "plugins"),
            },
        ),
    )
    kubeconfig = authority.kubeconfig(RUN / "kubelet.kubeconfig", plane.server, pair, user)
    return [
        str(binaries.path("kubelet")),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={_KUBELET_ROOT}",
        f"--hostname-override={NODE}",
        f"--node-ip={address}",
    ]


def _proxy(plane: ControlPlane, authority: Authority) -> list[str]:
    user = "system:kube-proxy"
    pair = authority.issue("kube-proxy", user)
    kubeconfig = authority.kubeconfig(RUN / "kube-proxy.kubeconfig", plane.server, pair, user)
    config = RUN / "kube-proxy.yaml"
    values = {"POD_SUBNET": POD_SUBNET, "KUBECONFIG": str(kubeconfig), "NODE": NODE}
    _configure(PROXY, config, render(HERE / "node" / "kube-proxy.yaml", values))
    return [str(binaries.path("kube-proxy")), f"--config={config}"]


def _resolv_conf() -> Path:
    """A resolver file that means the same inside a pod: without servers on this machine's loopback.

    Where nothing else is left, the file is empty: names outside the cluster then fail at once.
    """
    upstream = Path("/run/systemd/resolve/resolv.conf")
    source = upstream if upstream.exists() else Path("/etc/resolv.conf")
    lines = source.read_text().splitlines() if source.exists() else []
    kept = [line for line in lines if not line.split("#")[0].strip().startswith("nameserver 127.")]
    target = RUN / "resolv.conf"
    target.write_text("".join(f"{line}\n" for line in kept))
    return target


def _ready(plane: ControlPlane) -> bool:
    status = plane.kubectl(
        *("get", f"node/{NODE}", "--ignore-not-found", "-o"),
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
    )
    return status.strip() == "True"


def stop() -> None:
    """Stop the node and remove what it made on this machine; images and binaries stay cached."""
    for daemon in (KUBELET, SCHEDULER, PROXY):
        daemon.stop()
    # The folder itself may still be there: what is mounted in it can't be deleted.
    strays = [] if _OWNED.exists() else end_strays(RUN)
    if strays:
        say(
            "node",
            f"the cache was deleted under a running cluster: ended its {len(strays)} programs",
        )
    if _OWNED.exists() or strays:
        _remove_pods()
        _restore_network()
        _unmount_below(containerd.STATE)
        shutil.rmtree(containerd.STATE, ignore_errors=True)
    ControlPlane(RUN / "controlplane").stop()
    _unmount_below(RUN)
    if RUN.exists():
        shutil.rmtree(RUN)
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
    KUBECONFIG.unlink(missing_ok=True)


def _restore_network() -> None:
    if binaries.path("kube-proxy").exists() and packages.missing({"iptables": "iptables"}) == []:
        with (CACHE / "logs" / "kube-proxy-cleanup.log").open("w") as log:
            subprocess.run(
                [str(binaries.path("kube-proxy")), "--cleanup"],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATHS}"},
                check=False,
            )
        network.close_pod_network(_FORWARD_BEFORE)


def _remove_pods() -> None:
    """End every container of the node, whether or not containerd still runs."""
    groups = [*_CGROUPS.glob("kubepods"), *_CGROUPS.glob("*/kubepods")]
    had_pods = containerd.DAEMON.running() or groups or _LEASES.exists()
    if not had_pods:
        return
    say("node", "removing the pods")
    _kill_group_members(groups)
    namespaces: list[Path] = []
    if not packages.missing({"containerd": "containerd"}):
        containerd.start()
        namespaces = containerd.remove_containers()
    containerd.DAEMON.stop()
    for pid in containerd.shims():
        os.kill(pid, signal.SIGKILL)
    for namespace in namespaces:
        network.remove_namespace(namespace)
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            _remove_group(Path(folder))


def _kill_group_members(groups: list[Path]) -> None:
    # Groups vanish while this walks them: containerd's shims clean up after what was killed.
    for group in groups:
        for folder, _, _ in os.walk(group):
            try:
                pids = (Path(folder) / "cgroup.procs").read_text().split()
            except OSError:
                continue
            for pid in pids:
                _kill(int(pid))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_group(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        say("node", f"left the control group {folder}: {error.strerror}")


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted(mounts, key=len, reverse=True):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)


def make_volumes(names: list[str]) -> None:
    """Make the folders behind the static volumes, writable by any user id of a pod."""
    for name in names:
        folder = VOLUMES / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
