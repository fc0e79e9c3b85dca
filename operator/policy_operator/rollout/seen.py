"""Write a rollout's children as they were when it was decided what to write.

A write that meets a newer state than the one it was decided on is refused. Where only a controller
has written its status meanwhile, which it does after each of our writes, the decision still holds:
the write is repeated at once. A rollback does not wait for a Gateway's controller to have its say.

Only what is ours counts as seen. By the name of a child of ours anything may have been made: then
nothing is written, and whose it is is told.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from policy_operator import ownership
from policy_operator.children import labelled, managed, owned
from policy_operator.context import Context
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.errors import AlreadyExists, Conflict
from policy_operator.rollout.types import (
    Action,
    ApplyRoute,
    ApplyRules,
    ApplyServer,
    ApplyServing,
    ApplyShared,
)

# Controllers write once or twice after a change; a state that never stands still is decided anew.
_TRIES = 5
_BOOKKEEPING = ("resourceVersion", "managedFields")


def _manifests(actions: Iterable[Action]) -> Iterable[Obj]:
    for action in actions:
        match action:
            case ApplyServer():
                yield from action.manifests
            case ApplyRoute() | ApplyRules() | ApplyServing() | ApplyShared():
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

    owner: str
    """Its uid."""
    objects: dict[tuple[str, str, str], Obj | None]

    @classmethod
    def of(cls, owner: str, cache: Cache, actions: Iterable[Action]) -> "Seen":
        """Look at what is about to be written; call it before anything is awaited."""
        found = {ident: cache.get(*ident) for ident in map(_id, _manifests(actions))}
        ours = {
            i: obj if obj is not None and owned(obj, owner) else None for i, obj in found.items()
        }
        return cls(owner, ours)

    async def rehearse(self, manifest: Obj, ctx: Context) -> None:
        """Ask what the API server would say of a write, and write nothing.

        Raises:
            ApiError, OSError, TimeoutError: what it says against it.
        """
        with contextlib.suppress(AlreadyExists, Conflict):  # the write itself finds out whose it is
            await ctx.kube.apply(manifest, seen=self.objects[_id(manifest)], dry_run=True)

    async def write(self, manifest: Obj, ctx: Context) -> None:
        """Create a child, or make it have the manifest's fields: one call, most often.

        Raises:
            Taken: an object of its name is not ours; nothing was written.
            Conflict: the child is other than it was seen, and not by its status alone.
            ApiError, OSError, TimeoutError: the write failed.
        """
        ident = _id(manifest)
        seen = self.objects[ident]
        for left in reversed(range(_TRIES)):
            try:
                await ctx.kube.apply(manifest, seen=seen)
            except (AlreadyExists, Conflict) as error:
                found = await ownership.find(ctx.kube, ctx.cache, manifest, self.owner)
                if not left or found is None or not _holds(seen, found):
                    raise Conflict(
                        409, "Conflict", error.message, f"{ident[0]} {ident[2]}"
                    ) from None
                seen = found
            else:
                return


def _holds(seen: Obj | None, found: Obj) -> bool:
    """Whether what was decided on the one state holds for the other one as well."""
    if seen is None:
        # No watch tells of a child whose label was taken away: it must be written to have it again.
        return not labelled(found, managed({}))
    return wanted(found) == wanted(seen)
