"""Where a trainer pod finds what URIs name: volumes, mounts, paths, credentials. Pure."""

import re
from collections.abc import Iterable

from policy_api.keys import (
    AUDIENCE,
    CONFIGMAP_ROOT,
    PVC_ROOT,
    RUN_DIR,
    TOKEN_DIR,
    TOKEN_FILE,
)

from policy_operator.training.types import Dependencies, Manifest, Training

_TOKEN_SECONDS = 3600
_PVC = re.compile(r"^pvc://(?P<claim>[^/]+)(?:/(?P<path>.*))?$")
_CONFIG_MAP = re.compile(r"^configmap://(?P<name>[^/]+)/(?P<key>.+)$")


def local_path(uri: str) -> str:
    """Return what the pod opens for a URI of the spec: a local path, or the s3:// URL itself."""
    if pvc := _PVC.match(uri):
        return "/".join(p for p in (PVC_ROOT, pvc["claim"], (pvc["path"] or "").strip("/")) if p)
    if config_map := _CONFIG_MAP.match(uri):
        return f"{CONFIGMAP_ROOT}/{config_map['name']}/{config_map['key']}"
    return uri.removeprefix("file://")


def _uris(training: Training, needed: Dependencies) -> list[str]:
    spec = training.spec
    uris = [spec.artifact.uri, *(d.uri for d in spec.data)]
    if spec.base is not None and spec.base.onnx is not None:
        uris.append(spec.base.onnx.uri)
    return [*uris, *(found.artifact.uri for found in needed.values())]


def _matches(pattern: re.Pattern[str], group: str, uris: Iterable[str]) -> list[str]:
    return sorted({m[group] for u in uris if (m := pattern.match(u))})


def volumes(
    training: Training, needed: Dependencies, run: str
) -> tuple[list[Manifest], list[Manifest]]:
    """Return (volumes, mounts) of a trainer pod; `run` is the ConfigMap with its config."""
    uris = _uris(training, needed)
    token = {"path": TOKEN_FILE, "audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS}
    made: list[Manifest] = [
        {"name": "run", "configMap": {"name": run}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "tmp", "emptyDir": {}},
        # torch's data loaders pass batches through shared memory; 64 MiB is the default
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[Manifest] = [
        {"name": "run", "mountPath": RUN_DIR, "readOnly": True},
        {"name": "token", "mountPath": TOKEN_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - inside the pod
    ]
    written = _matches(_PVC, "claim", [training.spec.artifact.uri])
    for number, claim in enumerate(_matches(_PVC, "claim", uris)):
        name = f"pvc-{number}"
        made.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mount: Manifest = {"name": name, "mountPath": f"{PVC_ROOT}/{claim}"}
        if claim not in written:
            mount["readOnly"] = True
        mounts.append(mount)
    for number, source in enumerate(_matches(_CONFIG_MAP, "name", uris)):
        name = f"configmap-{number}"
        made.append({"name": name, "configMap": {"name": source}})
        path = f"{CONFIGMAP_ROOT}/{source}"
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return made, mounts


def secrets(training: Training, needed: Dependencies) -> list[str]:
    """Return Secrets whose keys become environment variables; the training's own come last."""
    own = training.spec.artifact.secret_ref
    names = [*(found.secret for found in needed.values()), own.name if own is not None else None]
    return list(dict.fromkeys(n for n in names if n is not None))
