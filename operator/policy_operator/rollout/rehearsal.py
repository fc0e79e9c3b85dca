"""Ask the API server what it would say of a server's pods, before anything is written.

A user's pod template holds fields that only the API server knows in full. What it refuses is told
in its words, while the rollout stands still.
"""

from collections.abc import Iterable, Iterator

from policy_operator.context import Context
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import Denied, Invalid
from policy_operator.rollout.seen import Seen
from policy_operator.rollout.types import Action, ApplyRoute, ApplyServer, PolicyDeployment

# A webhook that has side effects can't be asked; what it thinks is heard at the write itself.
_CANNOT_BE_ASKED = "does not support dry run"


def _pods(actions: Iterable[Action]) -> Iterator[Obj]:
    """Yield the Deployments that are written before the route; a rollback waits for none."""
    for action in actions:
        match action:
            case ApplyRoute():
                return
            case ApplyServer():
                yield from (m for m in action.manifests if m["kind"] == "Deployment")
            case _:
                continue


async def refusal(
    pdep: PolicyDeployment, actions: Iterable[Action], seen: Seen, ctx: Context
) -> str | None:
    """Return why the API server would not take the first Deployment that it refuses.

    Raises:
        ApiError, OSError, TimeoutError: it could not be asked, or the world is other than it was.
    """
    if pdep.spec.server.template is None:
        return None
    for manifest in _pods(actions):
        try:
            await seen.rehearse(manifest, ctx)
        except (Invalid, Denied) as error:
            if _CANNOT_BE_ASKED not in error.message:
                return error.message
    return None
