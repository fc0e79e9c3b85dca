"""URIs of data and artifacts, and where a pod finds what they name. Parsed here, once.

`pvc://<claim>/<path>` is a path on a volume, `configmap://<name>/<key>` a key of a ConfigMap,
`file:///<path>` a path in the image or on a mounted volume, `s3://…` a bucket. Anything else (a
model hub's id) is left as it is.
"""

import re
from dataclasses import dataclass

from policy_api.contract.environment import CONFIGMAP_ROOT, PVC_ROOT

_CLAIM = re.compile(r"^pvc://(?P<claim>[^/]+)(?:/(?P<path>.*))?$")
_CONFIG_MAP = re.compile(r"^configmap://(?P<name>[^/]+)/(?P<key>.+)$")


@dataclass(frozen=True)
class Location:
    """Where a pod finds what a URI names."""

    path: str
    """What the pod opens: a local path, or the s3:// URL itself."""
    claim: str | None = None
    """The PersistentVolumeClaim to mount, if any."""
    config_map: str | None = None
    """The ConfigMap to mount, if any."""


def claim_root(claim: str) -> str:
    """Return where a PersistentVolumeClaim is mounted."""
    return f"{PVC_ROOT}/{claim}"


def config_map_root(name: str) -> str:
    """Return where a ConfigMap is mounted."""
    return f"{CONFIGMAP_ROOT}/{name}"


def locate(uri: str) -> Location:
    """Return where a pod finds what a URI names."""
    if found := _CLAIM.match(uri):
        claim, path = found["claim"], (found["path"] or "").strip("/")
        return Location("/".join(p for p in (claim_root(claim), path) if p), claim=claim)
    if found := _CONFIG_MAP.match(uri):
        name = found["name"]
        return Location(f"{config_map_root(name)}/{found['key']}", config_map=name)
    return Location(uri.removeprefix("file://"))


def local_path(uri: str) -> str:
    """Return what the pod opens for a URI."""
    return locate(uri).path
