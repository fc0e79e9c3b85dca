"""A reverse proxy between one operator and the API server: it scopes, counts and kills.

- It narrows every list and watch to one namespace, so that many operators can work side by side on
  one control plane, each in a world of its own.
- It counts the operator's writes. Right after the API server has answered the k-th, and before the
  operator hears of it, it can have the operator killed: the write is done, its writer never knows.
- It lets somebody else's edit cross a write of the operator: the edit is done right before the
  write arrives, and no watch tells of either before the operator has its answer.
"""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from integration.client import CLUSTER_SCOPED, PATHS, Api
from yarl import URL

T = TypeVar("T")

_CLUSTER_PLURALS = {PATHS[kind][1] for kind in CLUSTER_SCOPED} | {"tokenreviews"}
_COLLECTION = re.compile(r"^/(?:api/v1|apis/[^/]+/[^/]+)/([a-z]+)$")
_HOP = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding"}
_ANSWER_FIRST = 0.5  # seconds
# Events are news, not state, and are sent in the background; the Lease is renewed by the clock; a
# TokenReview writes nothing.
_UNCOUNTED = ("/events", "/leases", "/tokenreviews")


class Loop:
    """One event loop in a background thread, for all proxies."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        """End the thread."""
        self.call(asyncio.sleep(0.1))  # connections that were closed end in the background
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Proxy:
    """One operator's way to the API server."""

    def __init__(
        self,
        api: Api,
        namespace: str,
    ) -> None:
        self._upstream = api.server
        self._tls: ssl.SSLContext = api.tls
        self._namespace = namespace
        self._kill_at: int | None = None
        self._on_kill: Callable[[], None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.forbidden: set[str] = set()
        """Plurals that the operator may not list or watch."""
        self._crossing: tuple[str, Callable[[], object]] | None = None
        self._told = asyncio.Event()  # watches are let through
        self._told.set()
        self.writes: list[str] = []
        self.port = 0

    def kill_at(self, number: int | None, on_kill: Callable[[], None]) -> None:
        """Call `on_kill` right after this write, counted from 1."""
        self._kill_at, self._on_kill = number, on_kill

    def cross(self, path: str, edit: Callable[[], object]) -> None:
        """Make the edit right before the next PATCH of a path with this end arrives."""
        self._crossing = (path, edit)

    @property
    def crossed(self) -> bool:
        """Whether the edit was made."""
        return self._crossing is None

    async def start(self) -> None:
        """Listen on a free port of loopback; on the same one when it is started again."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End: open watches are cut."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here. No credentials: the proxy has its own."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def _scoped(self, method: str, raw: str) -> URL:
        path, _, query = raw.partition("?")
        found = _COLLECTION.match(path)
        if method == "GET" and found is not None and found[1] not in _CLUSTER_PLURALS:
            head = path[: -len(found[1]) - 1]
            path = f"{head}/namespaces/{self._namespace}/{found[1]}"
        return URL(self._upstream + path + (f"?{query}" if query else ""), encoded=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._forward(request)
        finally:
            self._tasks.discard(task)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        plural = request.path.rsplit("/", 1)[-1]
        if request.method == "GET" and plural in self.forbidden:
            message = f'{plural} is forbidden: User "proxy" cannot list resource "{plural}"'
            status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}
            return web.json_response(status, status=403)
        url = self._scoped(request.method, request.raw_path)
        if request.method == "PATCH" and self._crossing is not None:
            path, edit = self._crossing
            if request.path.endswith(path):
                self._crossing = None
                self._told.clear()
                await asyncio.to_thread(edit)
                # Long enough for the answer to arrive first; whoever is right needs none of it.
                asyncio.get_running_loop().call_later(_ANSWER_FIRST, self._told.set)
        async with self._session.request(
            request.method, url, data=body or None, headers=headers
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if "watch" in request.query:
                return await self._stream(request, answer, kept)
            content = await answer.read()
            if request.method != "GET" and not request.path.endswith(_UNCOUNTED):
                self._count(request, body, answer.status)
            return web.Response(status=answer.status, body=content, headers=kept)

    def _count(self, request: web.Request, body: bytes, status: int) -> None:
        """Count a write that the API server has answered; kill when it is the one."""
        name = ""
        if request.method == "POST":
            name = "/" + json.loads(body)["metadata"].get("name", "")
        self.writes.append(f"{request.method} {request.path}{name} {status}")
        if len(self.writes) == self._kill_at and self._on_kill is not None:
            self._on_kill()

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers=headers)
        try:
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await self._told.wait()
                await stream.write(chunk)
        except (OSError, aiohttp.ClientError):
            return stream  # one end was killed; that is what this proxy is for
        return stream
