"""From sources to images in a cluster: builds what changed, loads what is missing.

A record beside the cache (`images/keys/<name>.json`) holds the key under which an image was built
last; an image with the same key is neither built nor loaded again.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import containerd
import engines
import images
import layout
from console import ClusterError, say
from controlplane import kubectl
from images import Image
from locks import exclusive
from settings import CACHE, KUBECONFIG, MONITORING_NAMESPACE, OPERATOR_NAMESPACE

_KEYS = CACHE / "images" / "keys"


class Store(Protocol):
    """A builder together with the cluster that runs what it builds."""

    def prepare(self) -> dict[str, str]:
        """Make the base available; returns the keys of images that were not built here."""

    def built(self, image: Image) -> bool:
        """Whether the builder holds an image of this name."""

    def build(self, image: Image) -> None:
        """Build and tag the image."""

    def load(self, image: Image) -> bool:
        """Make the cluster hold the image as built last; False when it did already."""


class NodeStore:
    """buildah on this machine, and containerd of the bare node."""

    def __init__(self) -> None:
        self._builder = engines.Buildah()

    def prepare(self) -> dict[str, str]:
        """Build the base image unless the storage has it."""
        with exclusive(_KEYS / "base.lock", "images", "waiting for the base image"):
            base = images.base()
            if (
                not self._builder.exists(base.name)
                or _recorded(base).get("key") != images.base_key()
            ):
                self._builder.build(base)
                _record(base, {"key": images.base_key()})
        return {base.name: images.base_key()}

    def built(self, image: Image) -> bool:
        """Whether buildah's storage holds it."""
        return self._builder.exists(image.name)

    def build(self, image: Image) -> None:
        """Build with buildah and export into the layout."""
        if self._builder.make_room():
            layout.prune(_exported())
        self._builder.build(image)
        self._export(image)

    def load(self, image: Image) -> bool:
        """Import into containerd unless it holds this very manifest."""
        descriptor = _recorded(image).get("descriptor")
        if descriptor is None or not layout.blob(descriptor["digest"]).exists():
            descriptor = self._export(image)
        if containerd.holds(image.name, descriptor["digest"]):
            return False
        containerd.load(image.name, descriptor)
        return True

    def _export(self, image: Image) -> dict[str, Any]:
        descriptor = self._builder.export(image.name)
        _record(image, {**_recorded(image), "descriptor": descriptor})
        return descriptor


@dataclass(frozen=True)
class KindStore:
    """A Docker engine and the kind cluster in it."""

    kind: Path
    cluster: str

    def prepare(self) -> dict[str, str]:
        """Nothing: the base image comes from its registry."""
        return {}

    def built(self, image: Image) -> bool:
        """Whether the engine holds it."""
        return engines.Docker().exists(image.name)

    def build(self, image: Image) -> None:
        """Build with the engine."""
        engines.Docker().build(image)

    def load(self, image: Image) -> bool:
        """Load into the node unless its containerd lists the image under the engine's id."""
        identity = _output("docker", "image", "inspect", "--format", "{{.Id}}", image.name)
        node = f"{self.cluster}-control-plane"
        listing = _output("docker", "exec", node, "crictl", "images", "--no-trunc")
        if identity.strip() in listing:
            return False
        say("images", f"{image.short}: loading into kind")
        _output(str(self.kind), "load", "docker-image", "--name", self.cluster, image.name)
        return True


def provide(store: Store, wanted: Iterable[Image]) -> list[str]:
    """Build and load images, parents first; returns the names of those newly loaded."""
    keys = store.prepare()
    loaded = []
    for image in wanted:
        lock = _KEYS / f"{image.short}.lock"
        with exclusive(lock, "images", f"{image.short}: waiting for another build"):
            keys[image.name] = images.key(image, keys)
            if _recorded(image).get("key") != keys[image.name] or not store.built(image):
                store.build(image)
                _record(image, {**_recorded(image), "key": keys[image.name]})
            if store.load(image):
                loaded.append(image.name)
            else:
                say("images", f"{image.short}: unchanged")
    return loaded


def component_keys() -> str:
    """The keys of all images of the cluster's own components, as built last."""
    names = sorted(images.COMPONENTS)
    records = {name: _KEYS / f"{name}.json" for name in names}
    return json.dumps(
        {
            name: json.loads(path.read_text())["key"]
            for name, path in records.items()
            if path.exists()
        }
    )


def restart_users(names: list[str]) -> None:
    """Restart Deployments of the operator and of monitoring that run an image loaded anew.

    The tag stays the same, so Kubernetes does not see the change; and a pod that waited for an
    image that was not there yet would wait for minutes more.
    """
    if not names:
        return
    for namespace in (OPERATOR_NAMESPACE, MONITORING_NAMESPACE):
        listing = kubectl(KUBECONFIG, "get", "deployments", "-n", namespace, "-o", "json")
        for deployment in json.loads(listing)["items"]:
            containers = deployment["spec"]["template"]["spec"]["containers"]
            if {_full(container["image"]) for container in containers} & set(names):
                name = deployment["metadata"]["name"]
                kubectl(KUBECONFIG, "rollout", "restart", f"deployment/{name}", "-n", namespace)
                say("images", f"restarted {namespace}/{name}, which runs a new image")


def _exported() -> list[str]:
    """The manifests of all images as exported last."""
    records = [json.loads(path.read_text()) for path in _KEYS.glob("*.json")]
    return [record["descriptor"]["digest"] for record in records if "descriptor" in record]


def _full(name: str) -> str:
    return name if name.startswith("docker.io/") else f"docker.io/{name}"


def _recorded(image: Image) -> dict[str, Any]:
    path = _KEYS / f"{image.short}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _record(image: Image, content: dict[str, Any]) -> None:
    _KEYS.mkdir(parents=True, exist_ok=True)
    path = _KEYS / f"{image.short}.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def _output(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"{' '.join(command[:4])} failed: {result.stderr.strip()}")
    return result.stdout
