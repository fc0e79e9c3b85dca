"""What the operator is told by its environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from policy_api.keys import GROUP


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.replace(",", " ").split() if part)


@dataclass(frozen=True)
class Settings:
    """Every environment variable that the operator reads, with its default."""

    namespace: str = "policy-operator-system"
    """POLICYOPS_NAMESPACE: where the operator's Lease, Secrets and Service are."""
    pod_name: str = "policy-operator-0"
    """POD_NAME: the leader labels this pod; it is also the identity in the Lease."""
    label_pod: bool = True
    """POLICYOPS_LABEL_POD: "false" where the process is no pod (tests, a developer's machine)."""
    trainer_image: str = "policyops/trainer:dev"
    """POLICYOPS_TRAINER_IMAGE: image of trainings that name none."""
    server_image: str = "policyops/server:dev"
    """POLICYOPS_SERVER_IMAGE: image of deployments that name none."""
    namespaces: tuple[str, ...] = ()
    """POLICYOPS_NAMESPACES: the namespaces that it works in, and needs rights in; empty: all."""
    prometheus_url: str | None = None
    """POLICYOPS_PROMETHEUS_URL: e.g. http://prometheus.monitoring.svc:9090; unset: not polled."""
    service_host: str = ""
    """POLICYOPS_SERVICE_HOST: name that trainers and Alertmanager call us by, also in the
    certificate; empty: policy-operator.<namespace>.svc."""
    service_port: int = 443
    """POLICYOPS_SERVICE_PORT: port of that name."""
    ca_namespaces: tuple[str, ...] = ()
    """POLICYOPS_CA_NAMESPACES: namespaces that get our CA as ConfigMap `policy-operator-ca`."""
    http_port: int = 8080
    """POLICYOPS_HTTP_PORT: health and metrics."""
    https_port: int = 8443
    """POLICYOPS_HTTPS_PORT: progress and alerts."""
    bind: str = ""
    """POLICYOPS_BIND: address that both listen on; empty: all, IPv4 and IPv6."""
    workers: int = 16
    """POLICYOPS_WORKERS: objects that are reconciled at once."""
    leader_elect: bool = True
    """POLICYOPS_LEADER_ELECT: "false" leads at once, for a single process."""
    lease_name: str = "policy-operator"
    """POLICYOPS_LEASE: name of the Lease."""
    resync_seconds: float = 300.0
    """POLICYOPS_RESYNC_SECONDS: everything is listed and looked at again this often."""
    log_format: str = "text"
    """POLICYOPS_LOG_FORMAT: text, or json for one JSON object a line."""
    log_level: str = "INFO"
    """POLICYOPS_LOG_LEVEL: DEBUG, INFO, WARNING, ERROR."""

    @property
    def host(self) -> str:
        """The name that others reach our HTTPS server by."""
        return self.service_host or f"policy-operator.{self.namespace}.svc"

    @property
    def audience(self) -> str:
        """The audience that a trainer's token must have been issued for."""
        return GROUP


def from_env(env: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a number or a choice can't be read; the sentence names the variable.
    """
    env = os.environ if env is None else env
    defaults = Settings()

    def text(name: str, default: str) -> str:
        return env.get(name) or default

    def number(name: str, default: float) -> float:
        raw = env.get(name)
        try:
            return float(raw) if raw else default
        except ValueError as error:
            raise ValueError(f"{name} must be a number, not {raw!r}") from error

    def flag(name: str, default: bool) -> bool:
        raw = (env.get(name) or str(default)).lower()
        if raw not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, not {raw!r}")
        return raw == "true"

    log_format = text("POLICYOPS_LOG_FORMAT", defaults.log_format)
    if log_format not in ("text", "json"):
        raise ValueError(f"POLICYOPS_LOG_FORMAT must be text or json, not {log_format!r}")
    return Settings(
        namespace=text("POLICYOPS_NAMESPACE", defaults.namespace),
        pod_name=text("POD_NAME", socket.gethostname() or defaults.pod_name),
        label_pod=flag("POLICYOPS_LABEL_POD", defaults.label_pod),
        trainer_image=text("POLICYOPS_TRAINER_IMAGE", defaults.trainer_image),
        server_image=text("POLICYOPS_SERVER_IMAGE", defaults.server_image),
        namespaces=_names(text("POLICYOPS_NAMESPACES", "")),
        prometheus_url=env.get("POLICYOPS_PROMETHEUS_URL") or None,
        service_host=text("POLICYOPS_SERVICE_HOST", defaults.service_host),
        service_port=int(number("POLICYOPS_SERVICE_PORT", defaults.service_port)),
        ca_namespaces=_names(text("POLICYOPS_CA_NAMESPACES", "")),
        http_port=int(number("POLICYOPS_HTTP_PORT", defaults.http_port)),
        https_port=int(number("POLICYOPS_HTTPS_PORT", defaults.https_port)),
        bind=text("POLICYOPS_BIND", defaults.bind),
        workers=int(number("POLICYOPS_WORKERS", defaults.workers)),
        leader_elect=flag("POLICYOPS_LEADER_ELECT", defaults.leader_elect),
        lease_name=text("POLICYOPS_LEASE", defaults.lease_name),
        resync_seconds=number("POLICYOPS_RESYNC_SECONDS", defaults.resync_seconds),
        log_format=log_format,
        log_level=text("POLICYOPS_LOG_LEVEL", defaults.log_level).upper(),
    )
