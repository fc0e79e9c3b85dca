"""The only place that talks to the API server (besides kopf's watches).

Objects are plain JSON. Every response of a write goes into the cache at once, so that the next
reconcile sees it even when the watch is slow.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.api_client import ApiClient
from policy_api.keys import API_VERSION, FIELD_MANAGER, GROUP

from policy_operator.machinery import metrics
from policy_operator.machinery.cache import Cache, Obj, Objs, resource_version

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_HAS_API_SECONDS = 60.0  # how long an answer about the APIs that exist is believed
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


@dataclass(frozen=True)
class Resource:
    """Where a kind lives in the API."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    cached: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Return the URL's path; namespace None means all of them."""
        parts = ["apis", self.group] if self.group else ["api"]
        parts.append(self.version)
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [p for p in (self.plural, name, sub) if p]
        return "/" + "/".join(quote(p, safe="") for p in parts)


RESOURCES: dict[str, Resource] = {
    "PolicyTraining": Resource(GROUP, API_VERSION, "policytrainings"),
    "PolicyDeployment": Resource(GROUP, API_VERSION, "policydeployments"),
    "PolicyVersion": Resource(GROUP, API_VERSION, "policyversions"),
    "Job": Resource("batch", "v1", "jobs"),
    "Pod": Resource("", "v1", "pods"),
    "Service": Resource("", "v1", "services"),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Secret": Resource("", "v1", "secrets", cached=False),
    "Deployment": Resource("apps", "v1", "deployments"),
    "EndpointSlice": Resource("discovery.k8s.io", "v1", "endpointslices"),
    "Gateway": Resource("gateway.networking.k8s.io", "v1", "gateways", cached=False),
    "HTTPRoute": Resource("gateway.networking.k8s.io", "v1", "httproutes"),
    "PrometheusRule": Resource("monitoring.coreos.com", "v1", "prometheusrules"),
    "Lease": Resource("coordination.k8s.io", "v1", "leases"),
    "Event": Resource("events.k8s.io", "v1", "events", cached=False),
    "TokenReview": Resource(
        "authentication.k8s.io", "v1", "tokenreviews", namespaced=False, cached=False
    ),
}


class ApiError(Exception):
    """The API server refused a call."""

    def __init__(self, status: int, reason: str, message: str, call: str) -> None:
        super().__init__(f"{call}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class AlreadyExists(ApiError):  # noqa: N818 - the API's own word
    """An object of this name exists."""


class NotFound(ApiError):  # noqa: N818 - the API's own word
    """No such object, or no such API."""


class NamespaceTerminating(ApiError):  # noqa: N818 - the API's own word
    """The namespace is being deleted: nothing new can be made in it, and all of it will go."""


class Conflict(ApiError):  # noqa: N818 - the API's own word
    """The object changed meanwhile, or is another one (uid)."""


def _error(status: int, body: bytes, call: str) -> ApiError:
    try:
        answer = json.loads(body)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        causes = {c.get("reason") for c in (answer.get("details") or {}).get("causes") or ()}
    except (ValueError, AttributeError):
        reason, message = "", body[:500].decode(errors="replace")
        causes = set()
    match status, reason:
        case 403, _ if "NamespaceTerminating" in causes:
            return NamespaceTerminating(status, reason, message, call)
        case 409, "AlreadyExists":
            return AlreadyExists(status, reason, message, call)
        case 409, _:
            return Conflict(status, reason, message, call)
        case 404, _:
            return NotFound(status, reason, message, call)
        case _:
            return ApiError(status, reason, message, call)


async def load_configuration() -> Configuration:
    """Return how to reach the API server: from the pod's service account, else from KUBECONFIG."""
    configuration = Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
        kube_config.load_incluster_config(client_configuration=configuration)
    else:
        await kube_config.load_kube_config(
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    # Else aiohttp looks for a password in ~/.netrc, in a thread, for every call.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()))


class Kube:
    """The calls that the operator makes."""

    def __init__(self, configuration: Configuration, cache: Cache) -> None:
        self._client = ApiClient(configuration)
        self._cache = cache
        self._apis: dict[tuple[str, str, str], tuple[float, bool]] = {}
        self.may_write: Callable[[], bool] = lambda: True
        """Asked before every write: a leader whose time is over writes no more."""
        self.last_success = time.monotonic()
        """When the API server last answered, on the monotonic clock."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def call(
        self,
        method: str,
        path: str,
        kind: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = _JSON,
    ) -> Obj:
        """Make one call.

        Raises:
            ApiError: the API server refused it (AlreadyExists, Conflict, NotFound…).
            OSError, TimeoutError: it could not be reached.
        """
        verb = "APPLY" if content_type == _APPLY_PATCH else method
        if method != "GET" and not self.may_write():
            raise OSError(f"{verb} {path}: this process leads no more")
        headers = {"Accept": _JSON, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        await self._client.update_params_for_auth(
            headers, None, ["BearerToken"], path, method, body
        )
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            response = await self._client.call_api(
                method, url, headers, body, _request_timeout=_TIMEOUT
            )
            data: bytes = await response.read()
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            metrics.API_CALLS.labels(verb, kind, "0").inc()
            if isinstance(error, OSError | TimeoutError):
                raise
            raise OSError(f"{verb} {path}: {error!r}") from error
        metrics.API_CALLS.labels(verb, kind, str(response.status)).inc()
        self.last_success = time.monotonic()
        if response.status >= 400:  # noqa: PLR2004 - HTTP's border of errors
            raise _error(response.status, data, f"{verb} {path}")
        answer: Obj = json.loads(data)
        return answer

    def _remember(self, kind: str, obj: Obj) -> Obj:
        if RESOURCES[kind].cached:
            self._cache.put(kind, obj)
        return obj

    async def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Read one object from the API server; None when there is none."""
        try:
            obj = await self.call("GET", RESOURCES[kind].path(namespace, name), kind)
        except NotFound:
            return None
        return self._remember(kind, obj)

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Objs:
        """Read objects from the API server."""
        objects, _ = await self.list_with_version(kind, namespace, _selector(labels or {}))
        return objects

    async def list_with_version(
        self,
        kind: str,
        namespace: str | None = None,
        selector: str | None = None,
    ) -> tuple[Objs, int]:
        """Read objects by label selector, and the resource version at which the list is true."""
        resource = RESOURCES[kind]
        query = {"labelSelector": selector} if selector else {}
        answer = await self.call("GET", resource.path(namespace), kind, query=query)
        # Items of a list carry neither kind nor apiVersion.
        head = {"apiVersion": resource.api_version, "kind": kind}
        return [{**head, **item} for item in answer["items"]], resource_version(answer)

    async def create(self, manifest: Obj) -> Obj:
        """Create an object.

        Raises:
            AlreadyExists: one of this name is there.
        """
        kind = manifest["kind"]
        path = RESOURCES[kind].path(manifest["metadata"].get("namespace"))
        query = {"fieldManager": FIELD_MANAGER}
        return self._remember(kind, await self.call("POST", path, kind, query=query, body=manifest))

    async def apply(self, manifest: Obj) -> Obj:
        """Make the object have these fields (server-side apply, forced, one field manager)."""
        kind, meta = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        obj = await self.call(
            "PATCH", path, kind, query=query, body=manifest, content_type=_APPLY_PATCH
        )
        return self._remember(kind, obj)

    async def replace(self, manifest: Obj) -> Obj:
        """Replace an object, if it still has the manifest's resource version.

        Raises:
            Conflict: it has changed.
        """
        kind, meta = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER}
        return self._remember(kind, await self.call("PUT", path, kind, query=query, body=manifest))

    async def merge_patch(self, kind: str, namespace: str, name: str, patch: Obj) -> Obj:
        """Merge a patch into an object; null removes a field."""
        path = RESOURCES[kind].path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        obj = await self.call(
            "PATCH", path, kind, query=query, body=patch, content_type=_MERGE_PATCH
        )
        return self._remember(kind, obj)

    async def patch_status(
        self, kind: str, namespace: str, name: str, status: Obj, *, uid: str | None = None
    ) -> None:
        """Set the whole status: what is not in it is gone.

        Args:
            kind: Kind of the object.
            namespace: Its namespace.
            name: Its name.
            status: The new status.
            uid: Only of this very object; a newer one of the same name is left alone.

        Raises:
            NotFound: the object is gone.
            ApiError: 422 when the uid is another one.
        """
        operations: list[Obj] = [{"op": "add", "path": "/status", "value": status}]
        if uid is not None:
            operations.insert(0, {"op": "test", "path": "/metadata/uid", "value": uid})
        path = RESOURCES[kind].path(namespace, name, "status")
        query = {"fieldManager": FIELD_MANAGER}
        obj = await self.call(
            "PATCH", path, kind, query=query, body=operations, content_type=_JSON_PATCH
        )
        self._remember(kind, obj)

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete an object and, in the background, what it owns; one that is gone is fine.

        Args:
            kind: Kind of the object.
            namespace: Its namespace.
            name: Its name.
            uid: Only this very object; a newer one of the same name is left alone.
        """
        body: Obj = {"kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self.call("DELETE", RESOURCES[kind].path(namespace, name), kind, body=body)
        except NotFound:
            return
        except Conflict:
            log.info("%s %s/%s is another object now, left alone", kind, namespace, name)

    async def has_api(self, group: str, version: str, plural: str) -> bool:
        """Whether the cluster serves this resource; an answer is believed for a minute."""
        key = (group, version, plural)
        at, known = self._apis.get(key, (0.0, False))
        if at and time.monotonic() - at < _HAS_API_SECONDS:
            return known
        try:
            answer = await self.call("GET", f"/apis/{group}/{version}", "APIResourceList")
            known = any(r["name"] == plural for r in answer["resources"])
        except NotFound:
            known = False
        self._apis[key] = (time.monotonic(), known)
        return known
