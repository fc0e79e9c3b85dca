"""The pod template of one version's server: what we must set, and what the user adds."""

from policy_api.contract.environment import (
    ARTIFACT_PATH_VARIABLE,
    ARTIFACT_SHA256_VARIABLE,
    POLICY_NAME_VARIABLE,
    POLICY_VERSION_VARIABLE,
    SERVING_DIR,
    SERVING_FILE,
    SERVING_PATH_VARIABLE,
)
from policy_api.contract.uris import Location, claim_root, locate
from policy_api.rules.pod_template import TemplateError, Terms, merge
from policy_api.v1alpha1.pod_template import SERVER_CONTAINER

from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import callers, serving
from policy_operator.rollout.manifests import labels
from policy_operator.rollout.types import PORT, REQUEST_SECONDS, PolicyDeployment

USER = 65532

# Between the deletion of a pod and its SIGTERM: the time for endpoints to reach every proxy, so
# that none sends a request to a server that no longer listens.
PRE_STOP_SECONDS = 5

# A large model loads for minutes; a server that can't load exits by itself and is restarted.
LOAD_SECONDS = 1800


def _volumes(deployment: str, location: Location) -> tuple[list[Obj], list[Obj]]:
    """Return the pod's volumes and the container's mounts."""
    volumes: list[Obj] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Obj] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    if location.claim is not None:
        volumes.append(
            {
                "name": "artifact",
                "persistentVolumeClaim": {"claimName": location.claim, "readOnly": True},
            }
        )
        mounts.append(
            {
                "name": "artifact",
                "mountPath": claim_root(location.claim),
                "readOnly": True,
            }
        )
    # Optional: pods start also where somebody has deleted it. Whole, since the kubelet renews no
    # file that is mounted alone.
    told = {"name": serving.object_name(deployment), "optional": True}
    volumes.append({"name": "serving", "configMap": told})
    mounts.append({"name": "serving", "mountPath": SERVING_DIR, "readOnly": True})
    return volumes, mounts


def _probe(path: str, *, period: int, failures: int, timeout: int = 2) -> Obj:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _container(
    pdep: PolicyDeployment,
    record: VersionRecord,
    location: Location,
    *,
    mounts: list[Obj],
    told: dict[str, str],
    image: str,
) -> Obj:
    artifact = record.artifact
    env = {
        ARTIFACT_PATH_VARIABLE: location.path,
        ARTIFACT_SHA256_VARIABLE: artifact.sha256,
        POLICY_NAME_VARIABLE: pdep.spec.policy,
        POLICY_VERSION_VARIABLE: str(record.version),
        SERVING_PATH_VARIABLE: f"{SERVING_DIR}/{SERVING_FILE}",
        "PORT": str(PORT),
        "HOME": "/tmp",  # noqa: S108 - in the pod
        **told,
    }
    container: Obj = {
        "name": SERVER_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "policy_server"],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/readyz", period=1, failures=LOAD_SECONDS),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        # Generous: an answer that keeps all cores busy for a while is no reason to be killed.
        "livenessProbe": _probe("/healthz", period=10, failures=6, timeout=10),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        # Ours leaves a sentence; of another image the end of its log is the best there is.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if artifact.secret_ref is not None:
        container["envFrom"] = [{"secretRef": {"name": artifact.secret_ref.name}}]
    if pdep.spec.server.resources:
        container["resources"] = pdep.spec.server.resources
    return container


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


def _refuse_port(template: Obj) -> None:
    """Refuse a container beside the server that says it listens on the server's port."""
    spec = template["spec"]
    for key in ("initContainers", "containers"):
        for container in spec.get(key) or ():
            ports = [p.get("containerPort") for p in container.get("ports") or ()]
            if container["name"] != SERVER_CONTAINER and PORT in ports:
                raise TemplateError(
                    f"{TERMS.place}.spec.{key}[{container['name']}].ports[{PORT}] can't be set: "
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
    made = _ours(pdep, record, pdep.spec.server.image or image)
    wanted = pdep.spec.server.template
    if wanted is None:
        return made
    merged = merge(made, wanted.to_wire(), TERMS)
    _refuse_port(merged)
    return merged


def _ours(pdep: PolicyDeployment, record: VersionRecord, image: str) -> Obj:
    """Return what every pod of a version must have."""
    location = locate(record.artifact.uri)
    volumes, mounts = _volumes(pdep.meta.name, location)
    more_volumes, more_mounts, told = callers.tokens(pdep)
    return {
        "metadata": {
            "labels": labels(pdep, record.version),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(PORT),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {
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
            "containers": [
                _container(
                    pdep,
                    record,
                    location,
                    mounts=[*mounts, *more_mounts],
                    told=told,
                    image=image,
                )
            ],
            "volumes": [*volumes, *more_volumes],
        },
    }
