"""What every local cluster gets on top of Kubernetes: storage, names, a gateway and monitoring.

The objects are the files in `manifests/`; Contour's CRDs and roles and the Gateway API's CRDs come
from Contour's own module, so that they fit the Contour that is built. All is applied server-side
with one field manager: applying again repairs, and changes nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import binaries
import delivery
from console import ClusterError, say, timed, wait_for
from controlplane import kubectl
from settings import (
    CACHE,
    CLUSTER_DOMAIN,
    DNS_SERVICE_IP,
    EXAMPLES_NAMESPACE,
    KUBECONFIG,
    LOGS,
    MANIFESTS,
    MONITORING_NAMESPACE,
    OPERATOR_NAMESPACE,
    RUN,
)
from template import fill

STATIC_VOLUMES: tuple[str, ...] = ("artifacts", "postgres", "local-1", "local-2", "local-3")
TOKEN_SECRET = "policy-operator-webhook"
DATABASES = "databases"
LOG_SECRET = "decision-log"
CA_CONFIG_MAP = "policy-operator-ca"

_CONTOUR_MODULE = "github.com/projectcontour/contour"
_CONTOUR_CRDS = ("examples/contour/01-crds.yaml", "examples/gateway/00-crds.yaml")
_CONTOUR_ROLES = ("examples/contour/02-rbac.yaml", "examples/contour/02-role-contour.yaml")
_WORKLOADS: tuple[str, ...] = (
    "kube-system/deployment/coredns",
    "projectcontour/deployment/contour",
    "projectcontour/deployment/envoy",
    "monitoring/deployment/alertmanager",
    "databases/statefulset/postgres",
)


def install(volumes: str, *, own_dns: bool, default_storage: bool) -> None:
    """Apply everything. `volumes` is the folder of the static volumes as the node sees it.

    Pods carry the hash of the manifests and images that they come from, so that a change of a
    configuration or of an image under the same tag replaces them.
    """
    digest = hashlib.sha256(delivery.component_keys().encode())
    for path in sorted(MANIFESTS.glob("*.yaml")):
        digest.update(path.read_bytes())
    made_from = digest.hexdigest()[:16]
    values = {
        "VOLUMES": volumes,
        "DEFAULT_CLASS": "true" if default_storage else "false",
        "CLUSTER_DOMAIN": CLUSTER_DOMAIN,
        "DNS_SERVICE_IP": DNS_SERVICE_IP,
        "MADE_FROM": made_from,
    }
    crds = _contour_files(_CONTOUR_CRDS)
    roles = _contour_files(_CONTOUR_ROLES)
    with timed("addons", "namespaces, storage and CRDs"):
        _apply(_manifest("00-namespaces", values), *crds)
        if own_dns:
            _apply(_manifest("coredns", values))
        free_released_volumes()
        _apply(_manifest("storage", values))
        kubectl(
            KUBECONFIG,
            *("wait", "--for=condition=Established", "--timeout=60s"),
            *(argument for path in crds for argument in ("-f", str(path))),
        )
    with timed("addons", "gateway and monitoring"):
        _share_webhook_token()
        _place_certificate_authority()
        _contour_certificates()
        _share_database_password()
        _apply(*roles, *(_manifest(name, values) for name in ("contour", "monitoring", "postgres")))


def wait(*, own_dns: bool) -> None:
    """Wait until all of it runs. Prometheus' rules sidecar is not waited for: its image is ours."""
    try:
        _wait(own_dns=own_dns)
    except ClusterError as error:
        raise ClusterError(error.sentence, _write_report()) from error


def _wait(*, own_dns: bool) -> None:
    workloads = [name for name in _WORKLOADS if own_dns or not name.startswith("kube-system/")]
    for workload in workloads:
        namespace, _, name = workload.partition("/")
        wait_for(
            f"{workload} is available",
            lambda n=namespace, w=name: _available(n, w),  # type: ignore[misc]
            timeout=180,
            step="addons",
            every=0.5,
        )
    wait_for("Prometheus is ready", _prometheus_ready, timeout=180, step="addons", every=0.5)
    wait_for("the Gateway is programmed", _gateway_ready, timeout=120, step="addons", every=0.5)


def _write_report() -> Path:
    """What the pods that are not ready say of themselves, in a file."""
    parts = [kubectl(KUBECONFIG, "get", "pods", "-A")]
    for namespace in ("kube-system", "projectcontour", MONITORING_NAMESPACE, DATABASES):
        for pod in json.loads(kubectl(KUBECONFIG, "get", "pods", "-n", namespace, "-o", "json"))[
            "items"
        ]:
            for status in pod["status"].get("containerStatuses", []):
                if status["ready"]:
                    continue
                name = pod["metadata"]["name"]
                parts.append(f"--- {namespace}/{name} {status['name']}: {status['state']}\n")
                if status["restartCount"]:
                    words = ("logs", name, "-n", namespace, "-c", status["name"], "--tail=5")
                    parts.append(kubectl(KUBECONFIG, *words))
    report = LOGS / "pods-not-ready.txt"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("".join(parts))
    return report


def _manifest(name: str, values: dict[str, str]) -> Path:
    """The filled template, as a file that a person can look at."""
    target = RUN / "manifests" / f"{name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(fill((MANIFESTS / f"{name}.yaml").read_text(), values))
    return target


def _apply(*paths: Path) -> None:
    kubectl(
        KUBECONFIG,
        *("apply", "--server-side", "--force-conflicts", "--field-manager=policyops-cluster"),
        *(argument for path in paths for argument in ("-f", str(path))),
    )


def _contour_files(names: tuple[str, ...]) -> list[Path]:
    """Files of Contour's module, kept in the cache so that a later start needs no Go."""
    kept = binaries.folder() / "manifests"
    paths = [kept / Path(name).name for name in names]
    if not all(path.exists() for path in paths):
        module = binaries.module_folder(_CONTOUR_MODULE, binaries.CONTOUR)
        kept.mkdir(parents=True, exist_ok=True)
        for name, path in zip(names, paths, strict=True):
            temporary = path.with_suffix(".new")
            shutil.copyfile(module / name, temporary)
            temporary.replace(path)
    return paths


def _share_webhook_token() -> None:
    """Give Alertmanager and the operator one random token; a token that exists is kept."""
    places = (OPERATOR_NAMESPACE, MONITORING_NAMESPACE)
    known = [_secret_value(space, TOKEN_SECRET, "token") for space in places]
    token = next((value for value in known if value), secrets.token_urlsafe(32))
    for namespace, value in zip(places, known, strict=True):
        if value != token:
            _write_secret(namespace, TOKEN_SECRET, {"token": token})
            say("addons", f"webhook token written to Secret {namespace}/{TOKEN_SECRET}")


def _share_database_password() -> None:
    """Give PostgreSQL a random password, and the examples the URL with it; one that is is kept."""
    password = _secret_value(DATABASES, "postgres", "password")
    if not password:
        password = secrets.token_urlsafe(32)
        _write_secret(DATABASES, "postgres", {"password": password})
    url = f"postgresql://policy:{password}@postgres.{DATABASES}.svc/decisions"
    if _secret_value(EXAMPLES_NAMESPACE, LOG_SECRET, "url") != url:
        key = secrets.token_urlsafe(32)
        _write_secret(EXAMPLES_NAMESPACE, LOG_SECRET, {"url": url, "redaction-key": key})
        say("addons", f"the decision log's URL is in Secret {EXAMPLES_NAMESPACE}/{LOG_SECRET}")


def _write_secret(namespace: str, name: str, data: Mapping[str, str]) -> None:
    _apply_object(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
    )


def _secret_value(namespace: str, name: str, key: str) -> str:
    text = kubectl(
        KUBECONFIG,
        *("get", "secret", name, "-n", namespace, "--ignore-not-found"),
        *("-o", f"jsonpath={{.data.{key}}}"),
    )
    return base64.b64decode(text).decode()


def _place_certificate_authority() -> None:
    """Put a certificate where Alertmanager expects the operator's, until the operator writes it.

    Alertmanager does not start without the file, and reads it again when it changes.
    """
    found = kubectl(
        KUBECONFIG,
        *("get", "configmap", CA_CONFIG_MAP, "-n", MONITORING_NAMESPACE),
        *("--ignore-not-found", "-o", "name"),
    )
    if found.strip():
        return
    config = json.loads(kubectl(KUBECONFIG, "config", "view", "--raw", "--minify", "-o", "json"))
    encoded = config["clusters"][0]["cluster"]["certificate-authority-data"]
    _apply_object(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            # The label hands it over: the operator writes no ConfigMap of others.
            "metadata": {
                "name": CA_CONFIG_MAP,
                "namespace": MONITORING_NAMESPACE,
                "labels": {"app.kubernetes.io/managed-by": "policy-operator"},
            },
            "data": {"ca.crt": base64.b64decode(encoded).decode()},
        }
    )


def _apply_object(document: Mapping[str, object]) -> None:
    kubectl(
        KUBECONFIG,
        *("apply", "--server-side", "--force-conflicts", "--field-manager=policyops-cluster"),
        *("-f", "-"),
        stdin=json.dumps(document),
    )


def _contour_certificates() -> None:
    """Make the certificates of the connection between Contour and Envoy, unless they are there."""
    found = kubectl(
        KUBECONFIG,
        *("get", "secret", "contourcert", "envoycert", "-n", "projectcontour"),
        *("--ignore-not-found", "-o", "name"),
    )
    if len(found.split()) == len(("contourcert", "envoycert")):
        return
    binaries.ensure(["contour"])
    log = CACHE / "logs" / "contour-certgen.log"
    command = [str(binaries.path("contour")), "certgen", "--kube", "--no-incluster", "--overwrite"]
    command += [f"--kubeconfig={KUBECONFIG}", "--namespace=projectcontour"]
    command += ["--secrets-format=compact", "--certificate-lifetime=825"]
    with log.open("w") as output:
        result = subprocess.run(command, stdout=output, stderr=output, env=os.environ, check=False)
    if result.returncode != 0:
        raise ClusterError("contour certgen could not write its certificates.", log)


def free_released_volumes() -> None:
    """Let volumes be claimed again whose claim was deleted; what is in them stays."""
    listing = json.loads(kubectl(KUBECONFIG, "get", "persistentvolumes", "-o", "json"))
    for volume in listing["items"]:
        name = volume["metadata"]["name"]
        if name not in STATIC_VOLUMES or volume["status"].get("phase") != "Released":
            continue
        path = "/spec/claimRef/uid" if name == "artifacts" else "/spec/claimRef"
        patch = json.dumps([{"op": "remove", "path": path}])
        kubectl(KUBECONFIG, "patch", "persistentvolume", name, "--type=json", "-p", patch)
        say("addons", f"volume {name} is free again")


def _available(namespace: str, name: str) -> bool:
    text = kubectl(
        KUBECONFIG,
        *("get", name, "-n", namespace, "--ignore-not-found", "-o"),
        "jsonpath={.metadata.generation} {.status.observedGeneration} "
        "{.status.updatedReplicas} {.status.availableReplicas}",
    )
    return text.split()[2:] == ["1", "1"] and text.split()[0] == text.split()[1]


def _prometheus_ready() -> bool:
    text = kubectl(
        KUBECONFIG,
        *("get", "pods", "-n", MONITORING_NAMESPACE, "-l", "app=prometheus", "-o"),
        'jsonpath={.items[*].status.containerStatuses[?(@.name=="prometheus")].ready}',
    )
    return "true" in text.split()


def _gateway_ready() -> bool:
    text = kubectl(
        KUBECONFIG,
        *("get", "gateway", "public", "-n", "gateways", "-o"),
        'jsonpath={.status.conditions[?(@.type=="Programmed")].status}',
    )
    return text.strip() == "True"
