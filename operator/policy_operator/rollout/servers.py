"""One version's Deployment and Service."""

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
from policy_api.keys import LABEL_DEPLOYMENT, LABEL_VERSION

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import callers, decision_log, serving
from policy_operator.rollout.manifests import labels, metadata, server_name
from policy_operator.rollout.types import (
    PORT,
    REQUEST_SECONDS,
    SERVICE_PORT,
    SETTLE_SECONDS,
    PolicyDeployment,
)

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
        "name": "server",
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


def build(pdep: PolicyDeployment, record: VersionRecord, image: str) -> tuple[Obj, ...]:
    """Return the Deployment and the Service that serve one version.

    Args:
        pdep: Its owner.
        record: The version.
        image: The operator's server image, for a spec that names none.
    """
    version = record.version
    location = locate(record.artifact.uri)
    volumes, mounts = _volumes(pdep.meta.name, location)
    told: dict[str, str] = {}
    for more in (callers.tokens(pdep), decision_log.kept(pdep)):
        volumes, mounts, told = [*volumes, *more[0]], [*mounts, *more[1]], told | more[2]
    name = server_name(pdep.meta.name, version)
    selector = {LABEL_DEPLOYMENT: pdep.meta.name, LABEL_VERSION: str(version)}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pdep, name, version),
        "spec": {
            "replicas": pdep.spec.server.replicas,
            "selector": {"matchLabels": selector},
            "minReadySeconds": SETTLE_SECONDS,
            "revisionHistoryLimit": 2,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": {
                "metadata": {
                    "labels": labels(pdep, version),
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
                            mounts=mounts,
                            told=told,
                            image=pdep.spec.server.image or image,
                        )
                    ],
                    "volumes": volumes,
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(pdep, name, version),
        "spec": {
            "selector": selector,
            "ports": [
                {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }
    return stamp(deployment, service)
