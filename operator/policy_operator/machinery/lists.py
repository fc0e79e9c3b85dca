"""List and watch: how the cache comes to be and stays true.

kopf watches the two kinds that users write; every other kind is watched here
(docs/adr/0019-children-are-watched-without-kopf.md). All kinds are listed here.

A kind that we may not read, or that the cluster does not have, holds up no other.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from policy_operator.machinery.cache import Cache, Obj, object_id, resource_version
from policy_operator.machinery.errors import ApiError, NotFound
from policy_operator.machinery.health import Health, place
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.kube import Kube
from policy_operator.machinery.outage import Unreachable
from policy_operator.machinery.pace import Pace

log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 3  # lists at once: each answer is taken in while nothing else runs
_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0  # seconds after a failure
_AWAY_DELAY = 1.0  # seconds between tries to reach an API server that does not answer
_ABSENT_DELAY = 10.0  # seconds between looks for an API that is not installed


@dataclass(frozen=True)
class Scope:
    """Which objects of a kind we look at."""

    labels: str | None = None
    fields: str | None = None
    namespaces: tuple[str | None, ...] = (None,)
    """Each is listed and watched by itself; None: all of them at once."""


class Lists:
    """Reads whole kinds into the cache."""

    def __init__(
        self, kube: Kube, cache: Cache, intake: Intake, health: Health, scopes: dict[str, Scope]
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._intake = intake
        self._health = health
        self.scopes = scopes
        self._some = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def read(self, kind: str, namespace: str | None) -> int | None:
        """List a kind, in pages and slices; what a broken watch missed is found here.

        Args:
            kind: What to list.
            namespace: One of its scope's namespaces.

        Returns:
            The resource version from which to watch; None when the cluster has no such kind, or
            does not let us read it: why is in `health.denied` then.

        Raises:
            ApiError, OSError: to be tried again.
        """
        async with self._some:
            try:
                version = await self._read(kind, namespace)
            except NotFound:  # an optional API (Gateway, Prometheus Operator) is not installed
                await self._take_away(kind, namespace, set(), None)
                version = None
            except ApiError as error:
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                self.deny(kind, namespace, error.message)
                return None
        self._health.allowed(place(kind, namespace))
        return version

    def deny(self, kind: str, namespace: str | None, message: str) -> None:
        """Note that we may not read a kind, and say so once."""
        what = place(kind, namespace)
        if self._health.deny(what, message):
            log.error("%s can't be read, and what needs it waits: %s", what, message)

    async def _read(self, kind: str, namespace: str | None) -> int:
        scope, pace = self.scopes[kind], Pace()
        listed: set[tuple[str, str]] = set()
        version = 0
        async for objects, at in self._kube.pages(kind, namespace, scope.labels, scope.fields):
            version = at
            for obj in objects:
                listed.add(object_id(obj))
                self._intake.answer(kind, obj, False)
                await pace.rest()
        await self._take_away(kind, namespace, listed, version)
        return version

    async def _take_away(
        self,
        kind: str,
        namespace: str | None,
        listed: set[tuple[str, str]],
        version: int | None,
    ) -> None:
        """Drop what is in the cache, not newer than the list, and not in it."""
        pace = Pace()
        for obj in self._cache.list(kind, namespace):
            at = resource_version(obj) if version is None else version
            if object_id(obj) not in listed and resource_version(obj) <= at:
                self._cache.remove(kind, obj, at)
                self._intake.changed(kind, obj, deleted=True)
            await pace.rest()
        self._cache.mark_synced(kind)

    async def read_all(self, *kinds: str) -> None:
        """List these kinds, or every kind, until the API server has answered for each."""

        async def until_done(kind: str, namespace: str | None) -> None:
            what, delay = place(kind, namespace), _FIRST_DELAY
            while True:
                try:
                    await self.read(kind, namespace)
                except Unreachable:
                    await asyncio.sleep(_AWAY_DELAY)
                except (ApiError, OSError) as error:
                    log.warning("%s could not be listed, again in %.1f s: %s", what, delay, error)
                    await asyncio.sleep(delay)
                    delay = min(_LAST_DELAY, delay * 2)
                else:
                    return

        places = ((k, n) for k in kinds or self.scopes for n in self.scopes[k].namespaces)
        await asyncio.gather(*(until_done(kind, namespace) for kind, namespace in places))
        self._health.synced = self._health.synced or not kinds


class Watch:
    """Follows one kind: a list, then every change, for ever."""

    def __init__(
        self,
        kind: str,
        namespace: str | None,
        lists: Lists,
        kube: Kube,
        tell: Callable[[str, str, Obj], None],
    ) -> None:
        """Make a watch.

        Args:
            kind: What to watch.
            namespace: One of the namespaces of the kind's scope.
            lists: Where to begin, and to begin again; it knows the scope.
            kube: The API server.
            tell: Takes (kind, type, object) of every event, bookmarks included.
        """
        self.kind = kind
        self.namespace = namespace
        self._scope = lists.scopes[kind]
        self._lists = lists
        self._kube = kube
        self._tell = tell
        self._version = 0
        self.begun = asyncio.Event()
        """The kind was listed, or the API server has said that it can't be."""

    async def run(self) -> None:
        """Follow until cancelled."""
        delay = _FIRST_DELAY
        while True:
            try:
                version = await self._lists.read(self.kind, self.namespace)
                self.begun.set()
                if version is None:
                    await asyncio.sleep(_ABSENT_DELAY)
                    continue
                self._version = version
                await self._follow()
            except Unreachable:
                await asyncio.sleep(_AWAY_DELAY)
            except (ApiError, OSError) as error:
                if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
                    self._lists.deny(self.kind, self.namespace, error.message)
                else:
                    what = place(self.kind, self.namespace)
                    log.warning("the watch of %s begins anew: %s", what, error)
                await asyncio.sleep(delay)
                delay = min(_LAST_DELAY, delay * 2)
            else:
                delay = _FIRST_DELAY

    async def _follow(self) -> None:
        """Take changes in until the API server has forgotten where we are.

        Raises:
            ApiError: the watch is refused.
        """
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._once()
            except Unreachable:
                await asyncio.sleep(_AWAY_DELAY)
            except ApiError as error:
                if error.status == HTTPStatus.GONE:
                    return
                raise
            else:
                # Watches end after minutes, by themselves; one that ends at once must not spin.
                if asyncio.get_running_loop().time() - began < _AWAY_DELAY:
                    await asyncio.sleep(_AWAY_DELAY)

    async def _once(self) -> None:
        scope, pace = self._scope, Pace()
        async for event_type, obj in self._kube.watch(
            self.kind, self._version, self.namespace, scope.labels, scope.fields
        ):
            self._version = resource_version(obj)
            self._tell(self.kind, event_type, obj)
            await pace.rest()
