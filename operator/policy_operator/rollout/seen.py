"""Write a rollout's children as they were when it was decided what to write.

A write that meets a newer state than the one it was decided on is refused. Where only a controller
has written its status meanwhile, which it does after each of our writes, the decision still holds:
the write is repeated at once. A rollback does not wait for a Gateway's controller to have its say.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from policy_operator.context import Context
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.kube import Conflict
from policy_operator.rollout.types import Action, ApplyRoute, ApplyRules, ApplyServer

# Controllers write once or twice after a change; a state that never stands still is decided anew.
_TRIES = 5
_BOOKKEEPING = ("resourceVersion", "managedFields")


def _manifests(actions: Iterable[Action]) -> Iterable[Obj]:
    for action in actions:
        match action:
            case ApplyServer():
                yield from action.manifests
            case ApplyRoute() | ApplyRules():
                yield action.manifest
            case _:
                continue


def _id(manifest: Obj) -> tuple[str, str, str]:
    meta = manifest["metadata"]
    return manifest["kind"], meta["namespace"], meta["name"]


def wanted(obj: Obj) -> Obj:
    """Return an object without what controllers report in it."""
    rest = {key: value for key, value in obj.items() if key != "status"}
    meta = {key: value for key, value in obj["metadata"].items() if key not in _BOOKKEEPING}
    return {**rest, "metadata": meta}


@dataclass(frozen=True)
class Seen:
    """The children that a decision writes, as it saw them; None where there was none."""

    objects: dict[tuple[str, str, str], Obj | None]

    @classmethod
    def of(cls, cache: Cache, actions: Iterable[Action]) -> "Seen":
        """Look at what is about to be written; call it before anything is awaited."""
        idents = map(_id, _manifests(actions))
        return cls({ident: cache.get(*ident) for ident in idents})

    async def write(self, manifest: Obj, ctx: Context) -> None:
        """Apply a manifest.

        Raises:
            Conflict: the object is other than it was seen, and not by its status alone.
            ApiError, OSError, TimeoutError: the write failed.
        """
        ident = _id(manifest)
        seen = self.objects[ident]
        for left in reversed(range(_TRIES)):
            try:
                await ctx.kube.apply(manifest, seen=seen)
            except Conflict:
                found = ctx.cache.get(*ident)
                same = seen is not None and found is not None and wanted(found) == wanted(seen)
                if not left or not same:
                    raise
                seen = found
            else:
                return
