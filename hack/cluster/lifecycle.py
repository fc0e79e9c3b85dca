"""`up`, `down`, `images` and `status`: the order of things, for each of the three kinds of cluster.

What waits on the network (packages, the base image) runs beside what waits on the processor (Go
builds). Every step is idempotent, so `up` repairs whatever an interrupted `up` left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor

import addons
import binaries
import containerd
import delivery
import engines
import images
import kind
import node
import packages
from console import ClusterError, say
from controlplane import kubectl
from locks import exclusive
from settings import CACHE, EXAMPLES_NAMESPACE, KUBECONFIG, LOGS, RUN, VOLUMES

_KIND_FILE = CACHE / "cluster-kind"
_LOCK = CACHE / "cluster.lock"
# Those without a Go program of ours are made while Go still builds.
_NEED_NO_GO = ("envoy", "alertmanager", "postgres")
_BUILT_HERE = ("pause", "coredns", "contour", "prometheus")
_GATEWAY_AND_MONITORING = (*_NEED_NO_GO, "contour", "prometheus")


def choose() -> str:
    """Which cluster to use: CLUSTER says, else what runs already, else what the machine has."""
    wish = os.environ.get("CLUSTER", "")
    if wish:
        if wish not in ("current", "kind", "bare"):
            raise ClusterError(f"CLUSTER is {wish!r}; it may be current, kind or bare.")
        return wish
    if _KIND_FILE.exists():
        return _KIND_FILE.read_text().strip()
    return "kind" if engines.docker_answers() else "bare"


def up(*, with_images: bool) -> None:
    """Bring the cluster up, with the product's images when asked, and wait until all of it runs."""
    with exclusive(_LOCK, "up", "waiting for another `up` or `down`"):
        chosen = choose()
        say("up", f"cluster: {chosen}")
        RUN.mkdir(parents=True, exist_ok=True)
        CACHE.joinpath("logs").mkdir(parents=True, exist_ok=True)
        _KIND_FILE.write_text(chosen)
        match chosen:
            case "current":
                _up_current()
            case "kind":
                _up_kind(with_images=with_images)
            case _:
                _up_bare(with_images=with_images)
        say("up", f"ready; export KUBECONFIG={KUBECONFIG}")


def _up_bare(*, with_images: bool) -> None:
    node.check()
    names = images.product([]) if with_images else []
    with ThreadPoolExecutor(max_workers=6) as pool:
        store = pool.submit(_prepare_machine)
        product = pool.submit(_provide_after, store, names)
        ready_made = pool.submit(_provide_components, store, _NEED_NO_GO)
        binaries.ensure((*binaries.CONTROL_PLANE, *binaries.NODE))
        # The node starts while Go still builds what only its addons need.
        programs = pool.submit(binaries.ensure, binaries.ADDONS)
        built_here = pool.submit(_provide_components, store, _BUILT_HERE)
        plane = node.start_control_plane()
        store.result()
        node.make_volumes(list(addons.STATIC_VOLUMES))
        node.start_node(plane)
        programs.result()
        built_here.result()
        ready_made.result()
        addons.install(str(VOLUMES), own_dns=True, default_storage=True)
        addons.wait(own_dns=True)
        delivery.restart_users(product.result())


def _prepare_machine() -> delivery.NodeStore:
    packages.ensure({**packages.NODE_PACKAGES, **packages.IMAGE_PACKAGES})
    node.start_containerd()
    store = delivery.NodeStore()
    store.prepare()
    return store


def _provide_after(store: Future[delivery.NodeStore], names: list[images.Image]) -> list[str]:
    return delivery.provide(store.result(), names) if names else []


def _provide_components(store: Future[delivery.NodeStore], names: tuple[str, ...]) -> list[str]:
    return delivery.provide(store.result(), images.components(names))


def _up_kind(*, with_images: bool) -> None:
    names = images.product([]) if with_images else []
    node.make_volumes(list(addons.STATIC_VOLUMES))
    with ThreadPoolExecutor(max_workers=2) as pool:
        cluster = pool.submit(kind.start)
        binaries.ensure(["kubectl", "contour"])
        cluster.result()
        store = _kind_store()
        product = pool.submit(delivery.provide, store, names)
        delivery.provide(store, images.components(_GATEWAY_AND_MONITORING))
        addons.install(kind.VOLUMES_IN_NODE, own_dns=False, default_storage=False)
        addons.wait(own_dns=False)
        delivery.restart_users(product.result())


def _kind_store() -> delivery.KindStore:
    return delivery.KindStore(kind.program(), kind.NAME)


def _up_current() -> None:
    """Take the user's own cluster as it is: install nothing, say what is missing."""
    program = shutil.which("kubectl") or str(binaries.ensure(["kubectl"]) / "kubectl")
    view = [program, "config", "view", "--minify", "--flatten", "--raw"]
    result = subprocess.run(view, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"The current kubeconfig cannot be read: {result.stderr.strip()}")
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(result.stdout)
    kubectl(KUBECONFIG, "version")
    found = kubectl(KUBECONFIG, "get", "crds", "-o", "name")
    if "httproutes.gateway.networking.k8s.io" not in found:
        raise ClusterError(
            "The cluster has no Gateway API: install a gateway that implements it, "
            "with a Gateway `public` in the namespace `gateways`."
        )
    named = ("secret", addons.LOG_SECRET, "-n", EXAMPLES_NAMESPACE, "--ignore-not-found")
    if not kubectl(KUBECONFIG, "get", *named):
        raise ClusterError(
            f"The examples keep their decisions in a PostgreSQL database: make the Secret "
            f"{addons.LOG_SECRET} in the namespace {EXAMPLES_NAMESPACE} with its URL under `url`, "
            "postgresql://user:password@host/database."
        )
    say("up", "using your cluster as it is; push the three images where it can pull them")


def provide_images(names: list[str]) -> None:
    """Build and load the product's images; the cluster need not be complete yet."""
    wanted = images.product(names)
    match choose():
        case "current":
            raise ClusterError(
                "With CLUSTER=current, build the images from the Dockerfiles, push them to your "
                "registry and set them in your overlay's kustomization.yaml."
            )
        case "kind":
            store: delivery.Store = _kind_store()
        case _:
            node.start_containerd()
            store = delivery.NodeStore()
    loaded = delivery.provide(store, wanted)
    if KUBECONFIG.exists():
        delivery.restart_users(loaded)


def down() -> None:
    """Remove the cluster; the cache of binaries and images stays."""
    with exclusive(_LOCK, "down", "waiting for another `up` or `down`"):
        match choose():
            case "current":
                KUBECONFIG.unlink(missing_ok=True)
                say("down", "your own cluster stays; `kubectl delete -k` removes the operator")
            case "kind":
                kind.stop()
            case _:
                node.stop()
        _KIND_FILE.unlink(missing_ok=True)
        say("down", f"removed; the cache in {CACHE} stays")


def status() -> None:
    """Print what runs and what does not."""
    if not _KIND_FILE.exists():
        print("no cluster: `up` starts one")
        return
    chosen = choose()
    print(f"cluster: {chosen}")
    if chosen == "bare":
        plane = node.control_plane()
        daemons = (plane.etcd, plane.apiserver, plane.controller_manager, node.SCHEDULER)
        for daemon in (*daemons, containerd.DAEMON, node.KUBELET, node.PROXY):
            pid = daemon.pid()
            print(f"  {daemon.name:<24} {f'pid {pid}' if pid else 'STOPPED'}")
        print(f"  logs: {LOGS}")
    pods = json.loads(kubectl(KUBECONFIG, "get", "pods", "-A", "-o", "json"))["items"]
    waiting = [pod for pod in pods if not _settled(pod)]
    print(f"pods: {len(pods) - len(waiting)} of {len(pods)} ready or completed")
    for pod in waiting:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        print(f"  {name}: {pod['status'].get('phase')} {_reason(pod)}")
    claims = kubectl(KUBECONFIG, "get", "pvc", "-n", EXAMPLES_NAMESPACE, "--ignore-not-found")
    if claims:
        print(claims.rstrip())


def _settled(pod: dict[str, object]) -> bool:
    status = pod["status"]
    if not isinstance(status, dict):
        return False
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
    return status.get("phase") == "Succeeded" or conditions.get("Ready") == "True"


def _reason(pod: dict[str, object]) -> str:
    status = pod["status"]
    if not isinstance(status, dict):
        return ""
    states = [entry.get("state", {}) for entry in status.get("containerStatuses", [])]
    return ", ".join(s["waiting"]["reason"] for s in states if "waiting" in s)
