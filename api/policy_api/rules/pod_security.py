"""What a pod template may not take away: the restricted pod security standard. Pure.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

Obj = dict[str, Any]

CONTAINERS = ("initContainers", "containers")
# The kinds of volumes of the restricted standard; all others reach the node, or name a Secret in a
# place that no rule of ours looks at.
VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
_SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)
_DROP_ALL: Obj = {"drop": ["ALL"]}


def weakened(template: Obj) -> Iterator[str]:
    """Yield the path of everything in a template that takes protection away."""
    spec = template.get("spec")
    if not isinstance(spec, dict):
        return
    yield from (f"spec.{k}" for k in ("hostIPC", "hostNetwork", "hostPID") if spec.get(k) is True)
    yield from _weak_context(spec.get("securityContext"), "spec.securityContext")
    for index, volume in enumerate(objects(spec.get("volumes"))):
        kinds = set(volume) - {"name"} - VOLUMES
        yield from (f"spec.volumes[{volume.get('name', index)}].{kind}" for kind in sorted(kinds))
    for key in CONTAINERS:
        for index, item in enumerate(objects(spec.get(key))):
            where = f"spec.{key}[{item.get('name', index)}]"
            yield from _weak_context(item.get("securityContext"), f"{where}.securityContext")
            for port in objects(item.get("ports")):
                if port.get("hostPort"):
                    yield f"{where}.ports[{port.get('containerPort')}].hostPort"


def _weak_context(context: Any, path: str) -> Iterator[str]:
    """Yield what is weak in the security context of a pod or of a container."""
    if isinstance(context, dict):
        for found in (_flags, _profiles, _linux, _capabilities):
            yield from (f"{path}.{field}" for field in found(context))


def _flags(context: Obj) -> Iterator[str]:
    weak = (("allowPrivilegeEscalation", True), ("privileged", True), ("runAsNonRoot", False))
    yield from (key for key, value in weak if context.get(key) is value)
    user = context.get("runAsUser")
    if user == 0 and not isinstance(user, bool):
        yield "runAsUser"
    if dict_of(context.get("windowsOptions")).get("hostProcess") is True:
        yield "windowsOptions.hostProcess"


def _profiles(context: Obj) -> Iterator[str]:
    for key in ("seccompProfile", "appArmorProfile"):
        if dict_of(context.get(key)).get("type") == "Unconfined":
            yield f"{key}.type"
    if context.get("procMount") == "Unmasked":
        yield "procMount"


def _linux(context: Obj) -> Iterator[str]:
    label = dict_of(context.get("seLinuxOptions"))
    yield from (f"seLinuxOptions.{key}" for key in ("user", "role") if label.get(key))
    if label.get("type") not in _SELINUX:
        yield "seLinuxOptions.type"
    for sysctl in objects(context.get("sysctls")):
        if sysctl.get("name") not in _SYSCTLS:
            yield f"sysctls[{sysctl.get('name')}]"


def _capabilities(context: Obj) -> Iterator[str]:
    said = dict_of(context.get("capabilities"))
    if said.get("add") not in (None, [], ["NET_BIND_SERVICE"]):
        yield "capabilities.add"
    drop = said.get("drop")
    if drop is not None and not (isinstance(drop, list) and "ALL" in drop):
        yield "capabilities.drop"


def hardened(container: Obj) -> Obj:
    """Return a container of the user's with what the standard wants, as far as it says nothing."""
    context = dict_of(container.get("securityContext"))
    capabilities = {**_DROP_ALL, **dict_of(context.get("capabilities"))}
    protected = {"allowPrivilegeEscalation": False, **context, "capabilities": capabilities}
    return {**container, "securityContext": protected}


def dict_of(value: Any) -> Obj:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Obj]:
    """Return the objects of a list; of anything else none."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
