"""When did each object get there? A watch in the background knows, at little cost."""

import threading
import time
from collections.abc import Callable

import httpx
from integration.client import Api, Obj, Refused

WATCH_SECONDS = 600


class Arrivals:
    """When each object of a kind was first seen in the state that is waited for."""

    def __init__(self, api: Api, kind: str, wanted: Callable[[Obj], bool]) -> None:
        self.seen: dict[tuple[str, str], float] = {}
        self.interruptions: list[str] = []
        self._api, self._kind, self._wanted = api, kind, wanted
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._api.closed:
            try:
                self._watch()
            except (httpx.HTTPError, OSError, Refused) as error:
                self.interruptions.append(repr(error))

    def _watch(self) -> None:
        for event, obj in self._api.watch(self._kind, WATCH_SECONDS):
            if event != "DELETED" and self._wanted(obj):
                meta = obj["metadata"]
                now = time.perf_counter()
                self.seen.setdefault((meta["namespace"], meta["name"]), now)

    def of(self, namespace: str) -> dict[str, float]:
        """Return the times by name in one namespace."""
        return {name: at for (space, name), at in list(self.seen.items()) if space == namespace}
