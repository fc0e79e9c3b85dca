"""Where a trainer pod finds what URIs name: volumes, mounts, paths, credentials. Pure."""

from policy_api.contract.environment import RUN_DIR, TOKEN_DIR, TOKEN_FILE
from policy_api.contract.uris import claim_root, config_map_root, locate
from policy_api.keys import AUDIENCE

from policy_operator.machinery.cache import Obj
from policy_operator.training.types import Dependencies, Training

_TOKEN_SECONDS = 3600


def _uris(training: Training, needed: Dependencies) -> list[str]:
    spec = training.spec
    uris = [spec.artifact.uri, *(d.uri for d in spec.data)]
    if spec.base is not None and spec.base.onnx is not None:
        uris.append(spec.base.onnx.uri)
    return [*uris, *(found.artifact.uri for found in needed.values())]


def volumes(training: Training, needed: Dependencies, run: str) -> tuple[list[Obj], list[Obj]]:
    """Return (volumes, mounts) of a trainer pod; `run` is the ConfigMap with its config."""
    uris = _uris(training, needed)
    token = {"path": TOKEN_FILE, "audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS}
    made: list[Obj] = [
        {"name": "run", "configMap": {"name": run}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "tmp", "emptyDir": {}},
        # torch's data loaders pass batches through shared memory; 64 MiB is the default
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[Obj] = [
        {"name": "run", "mountPath": RUN_DIR, "readOnly": True},
        {"name": "token", "mountPath": TOKEN_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - inside the pod
    ]
    written = locate(training.spec.artifact.uri).claim
    places = [locate(uri) for uri in uris]
    for number, claim in enumerate(sorted({p.claim for p in places if p.claim is not None})):
        name = f"pvc-{number}"
        made.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mount: Obj = {"name": name, "mountPath": claim_root(claim)}
        if claim != written:
            mount["readOnly"] = True
        mounts.append(mount)
    sources = sorted({p.config_map for p in places if p.config_map is not None})
    for number, source in enumerate(sources):
        name = f"configmap-{number}"
        made.append({"name": name, "configMap": {"name": source}})
        mounts.append({"name": name, "mountPath": config_map_root(source), "readOnly": True})
    return made, mounts


def own_volumes(training: Training) -> tuple[list[Obj], list[Obj]]:
    """Return (volumes, mounts) of a pod that works on the training's own store alone."""
    made: list[Obj] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Obj] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - inside the pod
    claim = locate(training.spec.artifact.uri).claim
    if claim is not None:
        made.append({"name": "store", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "store", "mountPath": claim_root(claim)})
    return made, mounts


def secrets(training: Training, needed: Dependencies) -> list[str]:
    """Return Secrets whose keys become environment variables; the training's own come last."""
    own = training.spec.artifact.secret_ref
    names = [*(found.secret for found in needed.values()), own.name if own is not None else None]
    return list(dict.fromkeys(n for n in names if n is not None))
