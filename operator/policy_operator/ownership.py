"""Whose an object of a child's name is, and the writes to what has no owner.

A name alone says nothing: a read followed by a write may meet another object than was read. So the
first write of a name is refused by the API server when there is one, and each later write names the
very object that was seen to be ours (docs/adr/0024).
"""

from collections.abc import Callable

from policy_operator.children import Foreign, labelled, owned
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.errors import AlreadyExists, ApiError, Conflict, NotFound
from policy_operator.machinery.kube import Kube

# Each try follows an answer that contradicts what was known; more is somebody who fights.
_TRIES = 4


class Taken(ApiError):  # noqa: N818 - not an error of ours
    """The name is in use by an object that is not ours: it was not touched."""

    def __init__(self, found: Obj) -> None:
        self.foreign = Foreign.of(found)
        meta = found["metadata"]
        call = f"{found['kind']} {meta['namespace']}/{meta['name']}"
        super().__init__(409, "NameTaken", self.foreign.sentence, call)


async def find(kube: Kube, cache: Cache, manifest: Obj, uid: str) -> Obj | None:
    """Ask the API server for the child of a manifest's name; None when there is none.

    Args:
        kube: The API server.
        cache: Loses what it has by this name if that is no more. Somebody else's object does not
            enter it, since no watch may tell of it.
        manifest: The child as it should be.
        uid: Of its owner.

    Raises:
        Taken: it is not ours.
        ApiError, OSError, TimeoutError: the API server could not be asked.
    """
    kind, meta = manifest["kind"], manifest["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    found = await kube.get(kind, namespace, name, remember=False)
    known = cache.get(kind, namespace, name)
    if known is not None and (
        found is None or found["metadata"]["uid"] != known["metadata"]["uid"]
    ):
        cache.remove(kind, known)
    if found is None:
        return None
    if not owned(found, uid):
        raise Taken(found)
    return kube.remember(kind, found)


async def keep(kube: Kube, manifest: Obj, known: Obj | None, done: Callable[[Obj], bool]) -> None:
    """Create an object that has no owner, or change its data if it carries the manifest's labels.

    Args:
        kube: The API server.
        manifest: A ConfigMap as it should be; its labels are how it is recognized.
        known: The object as it was last read, if it was.
        done: Says of an object of ours that it needs no write.

    Raises:
        Taken: an object of its name is not ours; nothing was written.
        ApiError, OSError, TimeoutError: the write failed.
    """
    kind, meta = manifest["kind"], manifest["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    ours = known if known is not None and labelled(known, meta["labels"]) else None
    for _ in range(_TRIES):
        if ours is not None and done(ours):
            return
        try:
            if ours is None:
                await kube.create(manifest)
            else:
                patch = {"data": manifest["data"]}
                await kube.merge_patch(kind, namespace, name, patch, seen=ours)
        except (AlreadyExists, Conflict, NotFound):
            ours = await kube.get(kind, namespace, name, remember=False)
            if ours is not None and not labelled(ours, meta["labels"]):
                raise Taken(ours) from None
        else:
            return
    raise TimeoutError(f"{kind} {namespace}/{name} keeps changing")
