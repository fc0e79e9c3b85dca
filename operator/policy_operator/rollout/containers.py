"""What a server pod is made of, whoever answers in it; and the built-in server's own."""

from dataclasses import dataclass

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
from policy_api.v1alpha1.pod_template import SERVER_CONTAINER

from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import callers, decision_log, serving
from policy_operator.rollout.types import PORT, PolicyDeployment

# Between the deletion of a pod and its SIGTERM: the time for endpoints to reach every proxy, so
# that none sends a request to a server that no longer listens.
PRE_STOP_SECONDS = 5

# A large model loads for minutes; a server that can't load exits by itself and is restarted.
LOAD_SECONDS = 1800

TMP: Obj = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - in the pod
HOME = {"HOME": "/tmp"}  # noqa: S108 - in the pod


@dataclass(frozen=True)
class Parts:
    """What differs between one kind of server and another."""

    server: Obj
    """The container that answers."""
    volumes: tuple[Obj, ...]
    port: int
    metrics_path: str
    before: tuple[Obj, ...] = ()
    """Containers that run before it."""


def variables(env: dict[str, str]) -> list[Obj]:
    """Return a container's environment."""
    return [{"name": name, "value": value} for name, value in env.items()]


def identity(pdep: PolicyDeployment, record: VersionRecord) -> dict[str, str]:
    """Return the environment that says what is served."""
    return {
        POLICY_NAME_VARIABLE: pdep.spec.policy,
        POLICY_VERSION_VARIABLE: str(record.version),
    }


def claimed(location: Location) -> tuple[list[Obj], list[Obj]]:
    """Return the volume that has the artifact, and how it is mounted; nothing for a bucket's."""
    if location.claim is None:
        return [], []
    claim = {"claimName": location.claim, "readOnly": True}
    mount = {"name": "artifact", "mountPath": claim_root(location.claim), "readOnly": True}
    return [{"name": "artifact", "persistentVolumeClaim": claim}], [mount]


def protected(name: str, image: str) -> Obj:
    """Return the fields that all containers of ours have."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Ours leaves a sentence; of another image the end of its log is the best there is.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _probe(path: str, *, period: int, failures: int, timeout: int = 2) -> Obj:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def answering(image: str, port: int, *, ready: str, alive: str) -> Obj:
    """Return the fields of the container that answers, as far as all kinds have them.

    Args:
        image: Its image.
        port: On which it listens.
        ready: Path that answers 200 when it may be asked.
        alive: Path that answers 200 unless it must be restarted.
    """
    return {
        **protected(SERVER_CONTAINER, image),
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        "startupProbe": _probe(ready, period=1, failures=LOAD_SECONDS),
        "readinessProbe": _probe(ready, period=2, failures=2),
        # Generous: an answer that keeps all cores busy for a while is no reason to be killed.
        "livenessProbe": _probe(alive, period=10, failures=6, timeout=10),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
    }


def credentials(record: VersionRecord) -> Obj:
    """Return how a container gets the keys of the artifact's store."""
    ref = record.artifact.secret_ref
    return {} if ref is None else {"envFrom": [{"secretRef": {"name": ref.name}}]}


def built_in(pdep: PolicyDeployment, record: VersionRecord, image: str) -> Parts:
    """Return policy_server.

    Args:
        pdep: Its owner.
        record: What it serves.
        image: The operator's server image, for a spec that names none.
    """
    location = locate(record.artifact.uri)
    volumes, mounts = claimed(location)
    more_volumes: list[Obj] = []
    more_mounts: list[Obj] = []
    told: dict[str, str] = {}
    for some_volumes, some_mounts, some_told in (callers.tokens(pdep), decision_log.kept(pdep)):
        more_volumes += some_volumes
        more_mounts += some_mounts
        told |= some_told
    # Optional: pods start also where somebody has deleted it. Whole, since the kubelet renews no
    # file that is mounted alone.
    config = {"name": serving.object_name(pdep.meta.name), "optional": True}
    settings = {"name": "serving", "mountPath": SERVING_DIR, "readOnly": True}
    env = {
        ARTIFACT_PATH_VARIABLE: location.path,
        ARTIFACT_SHA256_VARIABLE: record.artifact.sha256,
        **identity(pdep, record),
        SERVING_PATH_VARIABLE: f"{SERVING_DIR}/{SERVING_FILE}",
        "PORT": str(PORT),
        **HOME,
        **told,
    }
    server = {
        **answering(pdep.spec.server.image or image, PORT, ready="/readyz", alive="/healthz"),
        "command": ["python", "-m", "policy_server"],
        "env": variables(env),
        "volumeMounts": [TMP, *mounts, settings, *more_mounts],
        **credentials(record),
    }
    tmp: Obj = {"name": "tmp", "emptyDir": {}}
    return Parts(
        server=server,
        volumes=(tmp, *volumes, {"name": "serving", "configMap": config}, *more_volumes),
        port=PORT,
        metrics_path="/metrics",
    )
