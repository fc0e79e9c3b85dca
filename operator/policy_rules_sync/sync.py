"""A sidecar of Prometheus: keeps a folder of rule files equal to labelled ConfigMaps.

`python -m policy_rules_sync` is for clusters without the Prometheus Operator. It follows
the ConfigMaps that are labelled policyops.dev/prometheus-rules=true in all namespaces, writes
their data as files, and has Prometheus reload. Environment: RULES_DIR, PROMETHEUS_RELOAD_URL.

Prometheus refuses a reload as a whole when one file is wrong. So that one deployment's PromQL
can't stop the rules of all others, a refused reload is taken back and tried file by file; what is
refused alone is left out until its content changes.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import aiohttp
from policy_api.keys import LABEL_RULES
from policy_operator.machinery.cache import Id, Obj, Objs, object_id
from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.kube import Kube, load_configuration

log = logging.getLogger(__name__)

Reload = Callable[[], Awaitable[bool]]

SELECTOR = f"{LABEL_RULES}=true"
RETRY_SECONDS = 2.0
RELOAD_TIMEOUT = aiohttp.ClientTimeout(total=30)
_FILE = re.compile(r"^[-._A-Za-z0-9]+\.ya?ml$")


def files(found: Iterable[Obj]) -> dict[str, str]:
    """Return the rule files by name; two ConfigMaps never share one."""
    made = {}
    for config_map in found:
        meta = config_map["metadata"]
        for key, text in (config_map.get("data") or {}).items():
            if _FILE.match(key):
                stem = key.rsplit(".", 1)[0]
                made[f"{meta['namespace']}_{meta['name']}_{stem}.yaml"] = text
    return made


class Folder:
    """The rule files on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """Return the files that are there."""
        return {p.name: p.read_text() for p in sorted(self.path.glob("*.yaml"))}

    def write(self, wanted: Mapping[str, str]) -> bool:
        """Make the folder have exactly these files, each written atomically; say if it changed."""
        have = self.read()
        for name, text in wanted.items():
            if have.get(name) != text:
                part = self.path / f".{name}.part"
                part.write_text(text)
                part.replace(self.path / name)
        for name in have.keys() - wanted.keys():
            (self.path / name).unlink()
        return have != dict(wanted)


class Sync:
    """Brings wanted files into the folder and into Prometheus."""

    def __init__(self, folder: Folder, reload: Reload) -> None:
        self._folder = folder
        self._reload = reload
        self._refused: dict[str, str] = {}
        self._loaded: dict[str, str] | None = None
        """What Prometheus last took; None before its first reload."""

    async def to(self, wanted: Mapping[str, str]) -> None:
        """Make Prometheus evaluate these files, without those that it refuses.

        Raises:
            OSError, TimeoutError, aiohttp.ClientError: Prometheus can't be reached; try again.
        """
        self._refused = {n: t for n, t in self._refused.items() if wanted.get(n) == t}
        usable = {n: t for n, t in wanted.items() if n not in self._refused}
        if usable == self._loaded:
            return
        self._folder.write(usable)
        if await self._reload():
            self._loaded = usable
            log.info("%d rule files loaded", len(usable))
            return
        # One by one, from what was good.
        good = {n: t for n, t in (self._loaded or {}).items() if n in usable}
        for name in sorted(n for n, t in usable.items() if good.get(n) != t):
            tried = {**good, name: usable[name]}
            self._folder.write(tried)
            if await self._reload():
                good = tried
            else:
                log.error("Prometheus refuses %s: it is left out", name)
                self._refused[name] = usable[name]
                good.pop(name, None)
        self._folder.write(good)
        if not await self._reload():
            self._refused.clear()
            raise OSError("Prometheus refuses to reload whatever the rules are")
        self._loaded = good
        log.info("%d rule files loaded, %d refused", len(good), len(self._refused))


async def config_maps(kube: Kube) -> AsyncIterator[Objs]:
    """List, then yield the whole set after every change, until the watch ends.

    The list that follows repairs whatever was missed.

    Raises:
        ApiError, OSError: the API server refuses, or can't be reached.
    """
    known: dict[Id, Obj] = {}
    version = 0
    async for page, at in kube.pages("ConfigMap", labels=SELECTOR):
        known.update((object_id(obj), obj) for obj in page)
        version = at
    yield list(known.values())
    async for event_type, obj in kube.watch("ConfigMap", version, labels=SELECTOR):
        if event_type == "BOOKMARK":
            continue
        if event_type == "DELETED":
            known.pop(object_id(obj), None)
        else:
            known[object_id(obj)] = obj
        yield list(known.values())


def reloader(http: aiohttp.ClientSession, url: str) -> Reload:
    """Return a function that has Prometheus reload and says whether it took the files."""

    async def reload() -> bool:
        async with http.post(url, timeout=RELOAD_TIMEOUT) as response:
            if response.status == 200:  # noqa: PLR2004 - HTTP's OK
                return True
            log.warning("reload: HTTP %d: %s", response.status, (await response.text())[:300])
            if response.status == 500:  # noqa: PLR2004 - what Prometheus says of a bad file
                return False
            # 403, 404, 503…: not about the files
            raise OSError(f"reload at {url}: HTTP {response.status}")

    return reload


async def _follow(kube: Kube, latest: asyncio.Queue[dict[str, str]]) -> None:
    """Put the newest wanted files into the queue of one, for ever."""
    while True:
        try:
            async for found in config_maps(kube):
                if latest.full():
                    latest.get_nowait()
                latest.put_nowait(files(found))
        except (ApiError, OSError) as error:
            log.warning("the ConfigMaps can't be read, again in %.0f s: %s", RETRY_SECONDS, error)
            await asyncio.sleep(RETRY_SECONDS)


async def _load(sync: Sync, latest: asyncio.Queue[dict[str, str]]) -> None:
    """Bring the newest wanted files into Prometheus, for ever."""
    wanted = await latest.get()
    while True:
        try:
            await sync.to(wanted)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            log.warning("Prometheus does not reload, again in %.0f s: %s", RETRY_SECONDS, error)
            try:
                async with asyncio.timeout(RETRY_SECONDS):
                    wanted = await latest.get()
            except TimeoutError:
                continue
        else:
            wanted = await latest.get()


async def run(folder: Path, reload_url: str) -> None:
    """Keep the folder in step until cancelled."""
    latest: asyncio.Queue[dict[str, str]] = asyncio.Queue(1)
    kube = Kube(await load_configuration(), lambda *_: None)
    try:
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            group.create_task(_follow(kube, latest))
            group.create_task(_load(Sync(Folder(folder), reloader(http, reload_url)), latest))
    finally:
        await kube.close()
