"""The bare node's share of the machine's network, made by `up` and taken back by `down`.

Pods hang on point-to-point links (CNI `ptp`), so every packet passes the machine's routing and with
it kube-proxy's rules. What leaves the pod network is masqueraded by one rule of ours.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path
from typing import Any

from console import ClusterError, say
from settings import POD_SUBNET

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_COMMENT = "policyops local cluster"
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("nat", ("POSTROUTING", "-s", POD_SUBNET, "!", "-d", POD_SUBNET, "-j", "MASQUERADE")),
    ("filter", ("FORWARD", "-s", POD_SUBNET, "-j", "ACCEPT")),
    ("filter", ("FORWARD", "-d", POD_SUBNET, "-j", "ACCEPT")),
)
# Chains and rules that a kubelet leaves behind; kube-proxy clears its own with --cleanup.
_KUBELET_CHAINS: tuple[tuple[str, str], ...] = (
    ("mangle", "KUBE-IPTABLES-HINT"),
    ("mangle", "KUBE-KUBELET-CANARY"),
    ("nat", "KUBE-KUBELET-CANARY"),
    ("filter", "KUBE-KUBELET-CANARY"),
    ("filter", "KUBE-FIREWALL"),
)


def node_address() -> str:
    """The machine's own address: the source of its default route, else its first global one.

    Asking the routing table sends nothing. Raises ClusterError on a machine with loopback only.
    """
    route = _ip("-4", "route", "get", "192.0.2.1")
    found = [entry["prefsrc"] for entry in route if "prefsrc" in entry]
    for link in _ip("-4", "address", "show", "scope", "global"):
        found += [address["local"] for address in link.get("addr_info", [])]
    for address in found:
        parsed = ipaddress.ip_address(address)
        if not parsed.is_loopback and parsed not in ipaddress.ip_network(POD_SUBNET):
            return str(address)
    raise ClusterError("This machine has no address but loopback; pods need one to reach it.")


def open_pod_network(remember: Path) -> None:
    """Forward packets and masquerade what leaves the pods; `remember` keeps what was before."""
    if not remember.exists():
        remember.write_text(_FORWARD.read_text())
    if _FORWARD.read_text().strip() != "1":
        _FORWARD.write_text("1\n")
    for table, rule in _RULES:
        tagged = (*rule[:-2], "-m", "comment", "--comment", _COMMENT, *rule[-2:])
        if not _iptables(table, "-C", *tagged):
            action = "-A" if table == "nat" else "-I"
            if not _iptables(table, action, *tagged):
                raise ClusterError(f"iptables could not add a rule to {rule[0]}; are you root?")


def close_pod_network(remember: Path) -> None:
    """Take back what `open_pod_network` and the kubelet made."""
    for table, rule in _RULES:
        tagged = (*rule[:-2], "-m", "comment", "--comment", _COMMENT, *rule[-2:])
        while _iptables(table, "-D", *tagged):
            say("network", f"removed our rule from {rule[0]}")
    for parent in ("INPUT", "OUTPUT"):
        while _iptables("filter", "-D", parent, "-j", "KUBE-FIREWALL"):
            continue
    for table, chain in _KUBELET_CHAINS:
        if _iptables(table, "-F", chain):
            _iptables(table, "-X", chain)
    if remember.exists():
        _FORWARD.write_text(remember.read_text())
        remember.unlink()


def remove_namespace(path: Path) -> None:
    """Remove a pod's network namespace, and with it its link."""
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
    path.unlink(missing_ok=True)


def _ip(*words: str) -> list[dict[str, Any]]:
    result = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=False)
    return list(json.loads(result.stdout)) if result.returncode == 0 and result.stdout else []


def _iptables(table: str, *words: str) -> bool:
    result = subprocess.run(
        ["iptables", "-w", "10", "-t", table, *words], capture_output=True, check=False
    )
    return result.returncode == 0
