"""What the watches have told us: a read-only view for reconcilers, as plain JSON objects.

Three sources feed it, and the newest resource version wins: watch events, the responses to our
own writes (so that a reconcile that follows a write sees that write), and periodic lists (a watch
that had to start over does not say what was deleted meanwhile). Never change what it returns.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policy_api.keys import GROUP

Obj = dict[str, Any]
Objs = list[Obj]
Id = tuple[str, str]

# Deleted objects that are remembered, so that a late response to our own write brings none back.
_TOMBSTONES = 10_000
_POLICY = "spec.policy"  # in the index beside our labels, none of which has such a name


def object_id(obj: Obj) -> Id:
    """Return (namespace, name)."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def resource_version(obj: Obj) -> int:
    """Return the resource version; those of one kind are ordered (KEP-5504)."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def _slim(obj: Obj) -> Obj:
    """Leave out managed fields: nobody reads them and they are often half of the object."""
    meta = obj["metadata"]
    if "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


class _Store:
    """The objects of one kind, with an index over our own labels and over the policy."""

    def __init__(self) -> None:
        self.objects: dict[Id, Obj] = {}
        self.by_label: dict[tuple[str, str], dict[Id, None]] = {}

    @staticmethod
    def _indexed(obj: Obj) -> list[tuple[str, str]]:
        labels = obj["metadata"].get("labels") or {}
        policy = (obj.get("spec") or {}).get("policy")
        named = [(_POLICY, policy)] if isinstance(policy, str) else []
        return named + [(k, v) for k, v in labels.items() if k.startswith(GROUP)]

    def set(self, ident: Id, obj: Obj) -> None:
        old = self.objects.get(ident)
        if old is not None:
            self._unindex(ident, old)
        self.objects[ident] = obj
        for label in self._indexed(obj):
            self.by_label.setdefault(label, {})[ident] = None

    def drop(self, ident: Id) -> None:
        self._unindex(ident, self.objects.pop(ident))

    def _unindex(self, ident: Id, obj: Obj) -> None:
        for label in self._indexed(obj):
            bucket = self.by_label.get(label)
            if bucket is not None:
                bucket.pop(ident, None)
                if not bucket:
                    del self.by_label[label]


class Cache:
    """All objects that we own or read, by kind."""

    def __init__(self) -> None:
        self._stores: dict[str, _Store] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()  # uid -> resource version
        self._synced: set[str] = set()

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Return one object, or None."""
        store = self._stores.get(kind)
        return store.objects.get((namespace, name)) if store else None

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Objs:
        """Return the objects that carry all of the labels, in the order of their names.

        Labels of our own group are looked up in an index; others are compared one by one.
        """
        store = self._stores.get(kind)
        if store is None:
            return []
        wanted = dict(labels or {})
        idents: Iterable[Id] = store.objects
        ours = [(k, v) for k, v in wanted.items() if k.startswith(GROUP)]
        if ours:
            buckets = [store.by_label.get(label, {}) for label in ours]
            buckets.sort(key=len)
            idents = buckets[0]
        found = []
        for ident in idents:
            if namespace is not None and ident[0] != namespace:
                continue
            have = store.objects[ident]["metadata"].get("labels") or {}
            if all(have.get(k) == v for k, v in wanted.items()):
                found.append(ident)
        return [store.objects[ident] for ident in sorted(found)]

    def of_policy(self, kind: str, namespace: str, policy: str) -> Iterator[Obj]:
        """Yield the objects whose spec names the policy, in no order; await nothing meanwhile."""
        if (store := self._stores.get(kind)) is not None:
            for ident in store.by_label.get((_POLICY, policy), ()):
                if ident[0] == namespace:
                    yield store.objects[ident]

    def put(self, kind: str, obj: Obj) -> bool:
        """Take an object in unless a newer state of it is known; say whether anything changed."""
        uid = obj["metadata"].get("uid", "")
        if resource_version(obj) <= self._deleted.get(uid, -1):
            return False
        store = self._stores.setdefault(kind, _Store())
        ident = object_id(obj)
        old = store.objects.get(ident)
        if old is not None and resource_version(old) >= resource_version(obj):
            return False
        store.set(ident, _slim(obj))
        return True

    def remove(self, kind: str, obj: Obj, version: int | None = None) -> None:
        """Forget an object that was deleted at this version; one of another uid stays."""
        uid = obj["metadata"].get("uid", "")
        self._deleted[uid] = resource_version(obj) if version is None else version
        if len(self._deleted) > _TOMBSTONES:
            self._deleted.popitem(last=False)
        store = self._stores.get(kind)
        ident = object_id(obj)
        old = store.objects.get(ident) if store else None
        if store is not None and old is not None and old["metadata"].get("uid", "") == uid:
            store.drop(ident)

    def mark_synced(self, kind: str) -> None:
        """Note that the kind was listed."""
        self._synced.add(kind)

    def synced(self, kind: str) -> bool:
        """Whether the kind was listed at least once."""
        return kind in self._synced

    def count(self, kind: str) -> int:
        """Return how many objects of the kind are known."""
        store = self._stores.get(kind)
        return len(store.objects) if store else 0
