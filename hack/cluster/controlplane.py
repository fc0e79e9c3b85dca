"""A real control plane in one folder: etcd, kube-apiserver and kube-controller-manager.

The integration tests use it by itself; the bare node (node.py) adds scheduler, kubelet and proxy.

    with ControlPlane(tmp_path) as cluster:
        cluster.kubectl("apply", "-f", "crds/")
        run_something(KUBECONFIG=cluster.kubeconfig)

`start` after `stop` in the same folder continues with the same data, ports and certificates. etcd
does not wait for the disk (`--unsafe-no-fsync`): these clusters are thrown away, not restored.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import binaries
from certificates import Authority, Pair
from console import ClusterError, wait_for
from processes import Daemon
from settings import KUBERNETES_SERVICE_IP, SERVICE_SUBNET

READY_SECONDS = 120.0
KUBECTL_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """What a node needs to be different from the private control plane of a test.

    Attributes:
        advertise: the address under which pods reach the API server; loopback keeps it private.
        port: the API server's port; 0 takes a free one.
        hosts: further addresses that the API server's certificate carries.
        audited: a user whose calls are written to `audit.log` in the folder, one JSON a line.
    """

    advertise: str = "127.0.0.1"
    port: int = 0
    hosts: tuple[str, ...] = field(default_factory=tuple)
    audited: str = ""

    @property
    def private(self) -> bool:
        """Whether only this machine reaches the API server."""
        return self.advertise.startswith("127.")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ControlPlane:
    """Starts, reaches and stops one control plane. See the module's text for its use."""

    def __init__(self, folder: Path | str, options: Options | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.options = options or Options()
        self.kubeconfig = self.folder / "kubeconfig"
        self.logs = self.folder / "logs"
        self.etcd = self._daemon("etcd")
        self.apiserver = self._daemon("kube-apiserver")
        self.controller_manager = self._daemon("kube-controller-manager")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def server(self) -> str:
        """The API server's address as this machine reaches it."""
        return f"https://127.0.0.1:{self._ports()['apiserver']}"

    def authority(self) -> Authority:
        """The certificate authority, for whoever adds components."""
        return Authority(self.folder / "pki")

    def start(self) -> Self:
        """Start what does not run, and wait until the API server is ready and serves namespaces."""
        binaries.ensure(binaries.CONTROL_PLANE)
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = self.authority()
        accounts = authority.signing_key("service-accounts")
        self._start_etcd(authority)
        self._start_apiserver(authority, accounts)
        admin = authority.issue("admin", "policyops-admin", organization="system:masters")
        authority.kubeconfig(self.kubeconfig, self.server, admin, "policyops-admin")
        wait_for(
            "kube-apiserver is ready",
            lambda: self._ready(admin),
            timeout=READY_SECONDS,
            log=self.apiserver.log,
            alive=self.apiserver.running,
            step="controlplane",
        )
        self._start_controller_manager(authority, accounts)
        wait_for(
            "the namespace `default` has its service account",
            lambda: self._exists("serviceaccount/default"),
            timeout=READY_SECONDS,
            log=self.controller_manager.log,
            alive=self.controller_manager.running,
            step="controlplane",
        )
        return self

    def stop(self) -> None:
        """Stop the three programs by pid. The folder stays."""
        self.controller_manager.stop(grace=3)
        self.apiserver.stop(grace=5)
        self.etcd.stop(grace=5)

    def running(self) -> bool:
        """Whether all three programs are alive."""
        daemons = (self.etcd, self.apiserver, self.controller_manager)
        return all(daemon.running() for daemon in daemons)

    def kubectl(self, *arguments: str, stdin: str = "", timeout: float = KUBECTL_SECONDS) -> str:
        """Run kubectl against this control plane and return its output.

        Raises ClusterError with kubectl's own words when it fails or takes longer than `timeout`
        seconds.
        """
        return kubectl(self.kubeconfig, *arguments, stdin=stdin, timeout=timeout)

    def _daemon(self, name: str) -> Daemon:
        return Daemon(name, self.folder / "pids", self.logs)

    def _ports(self) -> dict[str, int]:
        """The ports of this folder's control plane: chosen once, kept for the next start."""
        path = self.folder / "ports.json"
        if path.exists():
            return {name: int(port) for name, port in json.loads(path.read_text()).items()}
        ports = {name: free_port() for name in ("etcd", "etcd-peer", "controller-manager")}
        ports["apiserver"] = self.options.port or free_port()
        path.write_text(json.dumps(ports))
        return ports

    def _start_etcd(self, authority: Authority) -> None:
        ports = self._ports()
        pair = authority.issue("etcd", "etcd", hosts=("localhost",), addresses=("127.0.0.1",))
        url = f"https://127.0.0.1:{ports['etcd']}"
        peer = f"http://127.0.0.1:{ports['etcd-peer']}"
        data = self.folder / "etcd"
        data.mkdir(mode=0o700, exist_ok=True)
        flags = {
            "name": "local",
            "data-dir": str(data),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"local={peer}",
            "cert-file": str(pair.certificate),
            "key-file": str(pair.key),
            "trusted-ca-file": str(authority.ca.certificate),
            "client-cert-auth": "true",
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }
        self.etcd.start([str(binaries.path("etcd")), *_flags(flags)])

    def _start_apiserver(self, authority: Authority, accounts: Pair) -> None:
        ports = self._ports()
        etcd_client = authority.issue("apiserver-etcd-client", "kube-apiserver-etcd-client")
        kubelet_client = authority.issue(
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            organization="system:masters",
        )
        serving = authority.issue(
            "apiserver",
            "kube-apiserver",
            hosts=(
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ),
            addresses=tuple(
                dict.fromkeys(
                    (
                        "127.0.0.1",
                        KUBERNETES_SERVICE_IP,
                        self.options.advertise,
                        *self.options.hosts,
                    )
                )
            ),
        )
        private = self.options.private
        flags = {
            "etcd-servers": f"https://127.0.0.1:{ports['etcd']}",
            "etcd-cafile": str(authority.ca.certificate),
            "etcd-certfile": str(etcd_client.certificate),
            "etcd-keyfile": str(etcd_client.key),
            "bind-address": "127.0.0.1" if private else "0.0.0.0",
            "advertise-address": self.options.advertise,
            # A loopback address is no endpoint that a Service may have.
            "endpoint-reconciler-type": "none" if private else "lease",
            "secure-port": str(ports["apiserver"]),
            "tls-cert-file": str(serving.certificate),
            "tls-private-key-file": str(serving.key),
            "client-ca-file": str(authority.ca.certificate),
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
            "service-cluster-ip-range": SERVICE_SUBNET,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-signing-key-file": str(accounts.key),
            "service-account-key-file": str(accounts.certificate),
            "kubelet-certificate-authority": str(authority.ca.certificate),
            "kubelet-client-certificate": str(kubelet_client.certificate),
            "kubelet-client-key": str(kubelet_client.key),
            "kubelet-preferred-address-types": "InternalIP",
            "profiling": "false",
            **self._audit_flags(),
        }
        self.apiserver.start([str(binaries.path("kube-apiserver")), *_flags(flags)])

    @property
    def audit_log(self) -> Path:
        """What the audited user has asked for."""
        return self.folder / "audit.log"

    def _audit_flags(self) -> dict[str, str]:
        if not self.options.audited:
            return {}
        rules = [{"level": "Metadata", "users": [self.options.audited]}, {"level": "None"}]
        policy = self.folder / "audit-policy.json"
        policy.write_text(
            json.dumps(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    # A watch is known by its start; every other call by its end.
                    "omitStages": ["RequestReceived"],
                    "rules": rules,
                }
            )
        )
        return {"audit-policy-file": str(policy), "audit-log-path": str(self.audit_log)}

    def _start_controller_manager(self, authority: Authority, accounts: Pair) -> None:
        name = "system:kube-controller-manager"
        client = authority.issue("controller-manager", name, organization=name)
        config = authority.kubeconfig(
            self.folder / "controller-manager.kubeconfig", self.server, client, name
        )
        flags = {
            "kubeconfig": str(config),
            "authentication-kubeconfig": str(config),
            "authorization-kubeconfig": str(config),
            "bind-address": "127.0.0.1",
            "secure-port": str(self._ports()["controller-manager"]),
            "service-account-private-key-file": str(accounts.key),
            "root-ca-file": str(authority.ca.certificate),
            "cluster-signing-cert-file": str(authority.ca.certificate),
            "cluster-signing-key-file": str(authority.ca.key),
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            # The default of 20 requests a second would make every burst a test of this limit.
            "kube-api-qps": "300",
            "kube-api-burst": "600",
        }
        command = [str(binaries.path("kube-controller-manager")), *_flags(flags)]
        self.controller_manager.start(command)

    def _ready(self, admin: Pair) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority().ca.certificate))
        context.load_cert_chain(admin.certificate, admin.key)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.server}/readyz", timeout=5) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (urllib.error.URLError, OSError):
            return False

    def _exists(self, name: str) -> bool:
        return bool(self.kubectl("get", name, "--ignore-not-found", "-o", "name").strip())


def kubectl(
    kubeconfig: Path, *arguments: str, stdin: str = "", timeout: float = KUBECTL_SECONDS
) -> str:
    """Run our kubectl with a kubeconfig. Raises ClusterError with kubectl's own words."""
    built = binaries.path("kubectl")
    program = str(built) if built.exists() else shutil.which("kubectl")
    if program is None:
        program = str(binaries.ensure(["kubectl"]) / "kubectl")
    try:
        result = subprocess.run(
            [program, *arguments],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        words = " ".join(arguments[:4])
        raise ClusterError(f"kubectl {words} took longer than {timeout:.0f} s.") from error
    if result.returncode != 0:
        words = " ".join(arguments[:4])
        raise ClusterError(f"kubectl {words} failed: {result.stderr.strip()}")
    return result.stdout


def _flags(flags: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
