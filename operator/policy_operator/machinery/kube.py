"""The only place that talks to the API server (besides kopf's watches of what users write).

Objects are plain JSON. Every response goes into the cache at once, so that the next reconcile sees
it even when the watch is slow.

A write that takes what was *seen* tests that the object is still that one, at that version. Where
it is not, the object is read anew into the cache before `Conflict` is raised: deciding again is all
that is left to do.
"""

import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.api_client import ApiClient
from policy_api.keys import FIELD_MANAGER

from policy_operator.machinery import metrics
from policy_operator.machinery.cache import Obj, Objs, resource_version
from policy_operator.machinery.errors import AlreadyExists, ApiError, Conflict, NotFound, refusal
from policy_operator.machinery.outage import Outage, Unreachable
from policy_operator.machinery.resources import RESOURCES

log = logging.getLogger(__name__)

Remember = Callable[[str, Obj, bool], None]

urgent: ContextVar[bool] = ContextVar("urgent", default=False)
"""Whether this task's calls go ahead of all others, by connections of their own."""

PAGE = 250  # objects: a page is read in one piece while nothing else runs
_WATCH_SECONDS = (240, 480)  # not all watches end together
# A bookmark comes about once a minute: without one the connection is dead.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=150)
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_HAS_API_SECONDS = 60.0  # how long an answer about the APIs that exist is believed
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

# No object has this resource version: etcd's first write makes its second revision.
_NO_VERSION = "1"


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


def _version(seen: Obj) -> Obj:
    """Return the metadata that makes a write fail unless the object is still at this version.

    No two objects ever have one version: a later object of the same name is told by it as well.
    """
    return {"resourceVersion": seen["metadata"]["resourceVersion"]}


def _identity(seen: Obj) -> Obj:
    """Return the metadata that makes a write fail unless it is this very object at this version."""
    return {"uid": seen["metadata"]["uid"], **_version(seen)}


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield a watch's lines, of any length; aiohttp's own iterator gives up on long ones."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    pairs = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in pairs.items() if value}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()))


class Kube:
    """The calls that the operator makes."""

    def __init__(self, configuration: Configuration, remember: Remember) -> None:
        """Make a client.

        Args:
            configuration: How to reach the API server.
            remember: Takes (kind, object, whether the writer expects it just so) of every answer.
        """
        # Each has 100 connections: a flood of reviews and reconciles keeps no alert and no renewal
        # of the Lease waiting, and the watches, which never end, count against neither.
        self._client, self._ahead, self._streams = (ApiClient(configuration) for _ in range(3))
        self._tell = remember
        self.outage = Outage()
        self._apis: dict[tuple[str, str, str], tuple[float, bool]] = {}
        self._cluster: str | None = None
        self.may_write: Callable[[], bool] = lambda: True
        """Asked before every write: a leader whose time is over writes no more."""

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._client, self._ahead, self._streams):
            await client.close()

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
            Unreachable: there was no answer; it is an OSError, and is logged already.
            OSError: this process must not write any more.
        """
        verb = "APPLY" if content_type == _APPLY_PATCH else method
        if method != "GET" and not self.may_write():
            raise OSError(f"{verb} {path}: this process leads no more")
        client = self._ahead if urgent.get() else self._client
        try:
            url = path + (f"?{urlencode(query)}" if query else "")
            response = await self._send(client, method, url, body, content_type=content_type)
            data: bytes = await response.read()
        except (OSError, aiohttp.ClientError) as error:
            metrics.API_CALLS.labels(verb, kind, "0").inc()
            raise self._away(error, f"{verb} {path}") from error
        metrics.API_CALLS.labels(verb, kind, str(response.status)).inc()
        self.outage.answered()
        if response.status >= 400:  # noqa: PLR2004 - HTTP's border of errors
            raise refusal(response.status, data, f"{verb} {path}")
        answer: Obj = json.loads(data)
        return answer

    def _away(self, error: BaseException, call: str) -> Unreachable:
        self.outage.failed(error)
        return Unreachable(f"{call}: {str(error) or type(error).__name__}")

    @staticmethod
    async def _send(
        client: ApiClient,
        method: str,
        url: str,
        body: Any = None,
        *,
        content_type: str = _JSON,
        patience: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        await client.update_params_for_auth(headers, None, ["BearerToken"], url, method, body)
        url = client.configuration.host + url
        answer = await client.call_api(method, url, headers, body, _request_timeout=patience)
        response: aiohttp.ClientResponse = answer.response
        return response

    def remember(self, kind: str, obj: Obj, *, expected: bool = False) -> Obj:
        """Take an answer of the API server into the cache, if its kind is kept there."""
        if RESOURCES[kind].cached:
            self._tell(kind, obj, expected)
        return obj

    async def _write(
        self, path: str, kind: str, body: Any, content_type: str, *, seen: Obj | None, **query: str
    ) -> Obj:
        """Patch an object; after a conflict with what was seen, the cache has the newest state."""
        query = {"fieldManager": FIELD_MANAGER, **query}
        try:
            obj = await self.call(
                "PATCH", path, kind, query=query, body=body, content_type=content_type
            )
        except Conflict:
            if seen is not None:
                meta = seen["metadata"]
                await self.get(kind, meta["namespace"], meta["name"])
            raise
        return self.remember(kind, obj, expected=seen is not None)

    async def get(
        self, kind: str, namespace: str, name: str, *, remember: bool = True
    ) -> Obj | None:
        """Read one object from the API server; None when there is none.

        Args:
            kind: Kind of the object.
            namespace: Its namespace.
            name: Its name.
            remember: Put it into the cache; not what no watch keeps up to date there.
        """
        try:
            obj = await self.call("GET", RESOURCES[kind].path(namespace, name), kind)
        except NotFound:
            return None
        return self.remember(kind, obj) if remember else obj

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Objs:
        """Read objects from the API server; meant for few."""
        pages = self.pages(kind, namespace, _selector(labels or {}), _selector(fields or {}))
        return [obj async for objects, _ in pages for obj in objects]

    async def pages(
        self,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[tuple[Objs, int]]:
        """Read objects page by page, each with the resource version at which the list is true."""
        resource = RESOURCES[kind]
        query = {"limit": str(PAGE), **_selectors(labels, fields)}
        # Items of a list carry neither kind nor apiVersion.
        head = {"apiVersion": resource.api_version, "kind": kind}
        while True:
            answer = await self.call("GET", resource.path(namespace), kind, query=query)
            yield [{**head, **item} for item in answer["items"]], resource_version(answer)
            if not (more := answer["metadata"].get("continue")):
                return
            query["continue"] = more

    async def watch(
        self,
        kind: str,
        version: int,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[tuple[str, Obj]]:
        """Yield (type, object) of every change after a version, bookmarks included, for minutes.

        Raises:
            ApiError: the API server refuses it, or ends it (410: begin with a list again).
            Unreachable: the connection broke, or nothing came for too long.
        """
        path = RESOURCES[kind].path(namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(random.randint(*_WATCH_SECONDS)),  # noqa: S311 - no secret
            **_selectors(labels, fields),
        }
        call = f"WATCH {path}"
        try:
            url = f"{path}?{urlencode(query)}"
            response = await self._send(self._streams, "GET", url, patience=_WATCH_TIMEOUT)
            async with response:
                if response.status >= 400:  # noqa: PLR2004 - HTTP's border of errors
                    raise refusal(response.status, await response.read(), call)
                self.outage.answered()
                async for line in lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise refusal(int(status.get("code") or 500), line[:0], f"{call}: {status}")
                    yield event["type"], event["object"]
        except (OSError, aiohttp.ClientError) as error:
            raise self._away(error, call) from error

    async def create(self, manifest: Obj) -> Obj:
        """Create an object.

        Raises:
            AlreadyExists: one of this name is there.
        """
        kind = manifest["kind"]
        path = RESOURCES[kind].path(manifest["metadata"].get("namespace"))
        query = {"fieldManager": FIELD_MANAGER}
        obj = await self.call("POST", path, kind, query=query, body=manifest)
        return self.remember(kind, obj, expected=True)

    async def apply(self, manifest: Obj, *, seen: Obj | None, dry_run: bool = False) -> Obj:
        """Make the object have these fields (server-side apply, forced, one field manager).

        What a POST creates belongs to another kind of manager (Update), and a field of it stays
        when a later apply leaves it out. So an apply creates as well: it compares the version of
        what is there with one that nothing has.

        Args:
            manifest: The fields.
            seen: The object that this was decided on, which is ours; None: there was none.
            dry_run: Only ask what the API server would say, admission included.

        Raises:
            AlreadyExists: there was none, and there is one now; it is left as it is.
            Conflict: it has changed since, or is another one, or gone.
        """
        kind, meta = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(meta.get("namespace"), meta["name"])
        # Without the uid, a version that is gone would be created anew.
        known = {"resourceVersion": _NO_VERSION} if seen is None else _identity(seen)
        body = {**manifest, "metadata": {**meta, **known}}
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        try:
            obj = await self.call(
                "PATCH", path, kind, query=query, body=body, content_type=_APPLY_PATCH
            )
        except Conflict as error:
            if seen is not None:
                raise
            raise AlreadyExists(409, "AlreadyExists", error.message, f"APPLY {path}") from error
        return obj if dry_run else self.remember(kind, obj, expected=True)

    async def replace(self, manifest: Obj) -> Obj:
        """Replace an object, if it still has the manifest's resource version.

        Raises:
            Conflict: it has changed.
        """
        kind, meta = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER}
        obj = await self.call("PUT", path, kind, query=query, body=manifest)
        return self.remember(kind, obj, expected=True)

    async def merge_patch(
        self, kind: str, namespace: str, name: str, patch: Obj, *, seen: Obj | None = None
    ) -> Obj:
        """Merge a patch into an object; null removes a field.

        Args:
            kind: Kind of the object.
            namespace: Its namespace.
            name: Its name.
            patch: What to merge.
            seen: The object that this was decided on.

        Raises:
            NotFound: the object is gone.
            Conflict: it has changed since, or is another one; the cache has the newest state.
        """
        path = RESOURCES[kind].path(namespace, name)
        body = patch
        if seen is not None:
            body = {**patch, "metadata": {**patch.get("metadata", {}), **_version(seen)}}
        return await self._write(path, kind, body, _MERGE_PATCH, seen=seen)

    async def patch_status(self, kind: str, seen: Obj, status: Obj) -> None:
        """Set the whole status: what is not in it is gone.

        Args:
            kind: Kind of the object.
            seen: The object that the status was decided on.
            status: The new status.

        Raises:
            NotFound: the object is gone.
            Conflict: it has changed since, or is another one; the cache has the newest state.
        """
        meta = seen["metadata"]
        version = meta["resourceVersion"]
        # Setting the version to what it is changes nothing; to anything else, the API server
        # answers 409. A failed `test` would be a 422, as a bad status is.
        operations: list[Obj] = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = RESOURCES[kind].path(meta["namespace"], meta["name"], "status")
        await self._write(path, kind, operations, _JSON_PATCH, seen=seen)

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

    async def cluster_uid(self) -> str:
        """Return what tells this cluster from others: the uid of its namespace kube-system.

        Empty where our roles do not let us read it.

        Raises:
            ApiError, OSError, TimeoutError: a call failed; to be tried again.
        """
        if self._cluster is None:
            try:
                found = await self.call("GET", "/api/v1/namespaces/kube-system", "Namespace")
                self._cluster = str(found["metadata"]["uid"])
            except NotFound:
                self._cluster = ""
            except ApiError as error:
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                self._cluster = ""
        return self._cluster

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
