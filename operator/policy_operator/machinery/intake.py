"""Everything that enters the cache passes here, and wakes the keys that it concerns.

An object comes by a watch, by a list, by a read of the API server itself, or as the answer to our
own write. Whichever is first tells whom it concerns; the others then find that it is known. One
key is not woken: whose reconcile wrote the object on the very state that it had decided on. Nobody
else can have changed anything in between, or the API server had refused the write
(docs/adr/0018-writes-test-what-they-were-decided-on.md).
"""

import asyncio

from policy_api.keys import KIND_DEPLOYMENT

from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.health import Health
from policy_operator.machinery.queue import Key, Queue, acting
from policy_operator.machinery.wakes import Relations

# What these say is read by their own writer's next decision, which may be due with all else there
# already (after a restart, say): no other event would bring it about.
_READ_BY_WRITER = (KIND_DEPLOYMENT, "PolicyVersion")


class Intake:
    """Takes what watches, lists, reads and writes tell."""

    def __init__(self, cache: Cache, queue: Queue, health: Health) -> None:
        self._cache = cache
        self._queue = queue
        self._health = health
        self._relations = Relations()
        self.relisted = asyncio.Event()
        """kopf had to list a kind again: what was deleted meanwhile it does not say."""

    def event(self, kind: str, event_type: str | None, obj: Obj) -> None:
        """Take one watch event; None is kopf's type for what its list found."""
        self._health.event()
        if event_type == "BOOKMARK":
            return
        if event_type is None and self._cache.synced(kind):
            self.relisted.set()
        if event_type == "DELETED":
            self._cache.remove(kind, obj)
            self.changed(kind, obj, deleted=True)
        elif self._cache.put(kind, obj):
            self.changed(kind, obj)

    def answer(self, kind: str, obj: Obj, expected: bool) -> None:
        """Take the API server's answer to a read or a write.

        Args:
            kind: Kind of the object.
            obj: The object as it is now.
            expected: Whether this is what the acting key has made of what it had decided on.
        """
        if self._cache.put(kind, obj):
            known = expected and kind not in _READ_BY_WRITER
            self.changed(kind, obj, but=acting.get() if known else None)

    def changed(
        self, kind: str, obj: Obj, *, deleted: bool = False, but: Key | None = None
    ) -> None:
        """Wake whoever is concerned by an object that has changed in the cache."""
        self._relations.learn(kind, obj, deleted=deleted)
        for key in self._relations.concerned(kind, obj):
            if key != but:
                self._queue.add(key)
