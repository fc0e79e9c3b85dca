"""The pod template of one version's server: what we must set, and what the user adds."""

from dataclasses import replace

from policy_api.rules.pod_template import TemplateError, Terms, merge
from policy_api.v1alpha1.pod_template import SERVER_CONTAINER

from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout.containers import PRE_STOP_SECONDS, Parts, built_in
from policy_operator.rollout.engine import custom
from policy_operator.rollout.manifests import labels
from policy_operator.rollout.types import REQUEST_SECONDS, PolicyDeployment

USER = 65532

_SERVER = f"spec.containers[{SERVER_CONTAINER}]"
_PROBES = tuple(f"{_SERVER}.{name}Probe" for name in ("startup", "readiness", "liveness"))
_NUMBERS = ("periodSeconds", "timeoutSeconds", "failureThreshold")
# What spec.server.template may say of what we set: how often is asked, who scrapes, which user.
TERMS = Terms(
    place="spec.server.template",
    free=frozenset(
        (
            *(f"metadata.annotations.prometheus.io/{k}" for k in ("scrape", "port", "path")),
            *(f"{probe}.{number}" for probe in _PROBES for number in _NUMBERS),
            f"{_SERVER}.imagePullPolicy",
            "spec.enableServiceLinks",
            *(
                f"spec.securityContext.{k}"
                for k in ("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy")
            ),
        )
    ),
    least=frozenset(("spec.terminationGracePeriodSeconds",)),
    elsewhere={
        f"{_SERVER}.image": "set spec.server.image",
        f"{_SERVER}.resources": "set spec.server.resources",
        f"{_SERVER}.args": "the server takes its settings from its environment",
    },
)
# An image that is not ours may have to write beside itself; the restricted standard lets it.
CUSTOM_TERMS = replace(
    TERMS,
    free=TERMS.free | {f"{_SERVER}.securityContext.readOnlyRootFilesystem"},
    elsewhere={
        **TERMS.elsewhere,
        f"{_SERVER}.command": "set spec.server.custom.command",
        f"{_SERVER}.args": "set spec.server.custom.args",
    },
)


def _refuse_port(template: Obj, port: int) -> None:
    """Refuse a container beside the server that says it listens on the server's port."""
    spec = template["spec"]
    for key in ("initContainers", "containers"):
        for container in spec.get(key) or ():
            ports = [p.get("containerPort") for p in container.get("ports") or ()]
            if container["name"] != SERVER_CONTAINER and port in ports:
                raise TemplateError(
                    f"{TERMS.place}.spec.{key}[{container['name']}].ports[{port}] can't be set: "
                    "the server listens on that port"
                )


def template(pdep: PolicyDeployment, record: VersionRecord, image: str) -> Obj:
    """Return the pod template of one version.

    Args:
        pdep: Its owner.
        record: The version.
        image: The operator's server image, for a spec that names none.

    Raises:
        TemplateError: spec.server.template can't be merged; the text is a sentence for the user.
    """
    server = pdep.spec.server
    if server.custom is None:
        parts, terms = built_in(pdep, record, image), TERMS
    else:
        parts, terms = custom(pdep, record, server.custom, image), CUSTOM_TERMS
    made = _ours(pdep, record, parts)
    if server.template is None:
        return made
    merged = merge(made, server.template.to_wire(), terms)
    _refuse_port(merged, parts.port)
    return merged


def _ours(pdep: PolicyDeployment, record: VersionRecord, parts: Parts) -> Obj:
    """Return what every pod of a version must have."""
    resources = pdep.spec.server.resources
    server = {**parts.server, "resources": resources} if resources else parts.server
    spec: Obj = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + REQUEST_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [server],
        "volumes": list(parts.volumes),
    }
    if parts.before:
        spec["initContainers"] = list(parts.before)
    return {
        "metadata": {
            "labels": labels(pdep, record.version),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(parts.port),
                "prometheus.io/path": parts.metrics_path,
            },
        },
        "spec": spec,
    }
