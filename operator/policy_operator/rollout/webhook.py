"""The fast path: Alertmanager's webhook acts before it answers.

Alertmanager delivers at least once, and again until it reads a 2xx. When this returns, the weights
are written with the reason beside them; the version's record and the status follow, by this
process or, if it dies, by the next one.
"""

import asyncio
import logging
from datetime import datetime

from policy_api.keys import KIND_DEPLOYMENT

from policy_operator.context import Context
from policy_operator.machinery.kube import urgent
from policy_operator.machinery.queue import Key, acts_for
from policy_operator.monitoring import alerts
from policy_operator.monitoring.types import Signal
from policy_operator.rollout.reconcile import reconcile

log = logging.getLogger(__name__)


# Reconciles that go on after the answer; the loop itself holds tasks by weak references only.
_going_on: set[asyncio.Task[None]] = set()


async def _whole(
    key: Key, signals: tuple[Signal, ...], ctx: Context, now: datetime, returned: asyncio.Event
) -> None:
    urgent.set(True)
    with acts_for(key):
        for signal in signals:
            word = "fires" if signal.firing else "is resolved"
            about = f" for v{signal.version}" if signal.version is not None else ""
            log.info("alert %s %s%s", signal.name, word, about)
        next_check = await reconcile(key, ctx, now, signals, returned)
    if next_check is not None:
        ctx.queue.add_at(key, next_check)


async def _act(key: Key, signals: tuple[Signal, ...], ctx: Context, now: datetime) -> None:
    """Return once the alerts are acted on for good, which may be before all is written down."""
    returned = asyncio.Event()
    task = asyncio.create_task(_whole(key, signals, ctx, now, returned))
    first = asyncio.create_task(returned.wait())
    with ctx.queue.give_way():
        await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    if task.done():
        task.result()
        return
    _going_on.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        _going_on.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s: a rollback's weights are written, the rest is not: %s", key, error)
            ctx.queue.add(key)

    task.add_done_callback(ended)


async def handle(payload: bytes, ctx: Context, now: datetime) -> None:
    """Act on a notification; alerts that are not ours, or whose deployment is gone, are ignored.

    Args:
        payload: The request's body.
        ctx: The operator's parts.
        now: The time.

    Raises:
        ValueError: the body is no Alertmanager webhook of version 4 (answer 400: no use in
            sending it again).
        ApiError, OSError, TimeoutError, RuntimeError: it could not be acted on (answer 5xx:
            Alertmanager sends it again).
    """
    found = alerts.parse(payload)
    known = {
        Key(KIND_DEPLOYMENT, namespace, name): signals
        for (namespace, name), signals in found.items()
        if ctx.cache.get(KIND_DEPLOYMENT, namespace, name) is not None
    }
    results = await asyncio.gather(
        *(_act(key, signals, ctx, now) for key, signals in known.items()), return_exceptions=True
    )
    for result in results:
        if isinstance(result, ValueError):
            # Our object is at fault, not the sender's body: let it send again.
            raise RuntimeError(  # noqa: TRY004 - nothing is wrong with a type
                f"a deployment can't be read: {result}"
            ) from result
        if isinstance(result, BaseException):
            raise result
