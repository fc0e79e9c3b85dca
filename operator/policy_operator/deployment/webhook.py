"""The fast path: Alertmanager's webhook acts before it answers.

Alertmanager delivers at least once, and again until it reads a 2xx. So nothing here is remembered
outside the API server: when this returns, the weights are written with the reason beside them.
"""

import asyncio
import logging
from datetime import datetime

from policy_operator import logs
from policy_operator.context import Context
from policy_operator.deployment import alerts
from policy_operator.deployment.reconcile import KIND, reconcile
from policy_operator.deployment.types import Signal
from policy_operator.queue import Key

log = logging.getLogger(__name__)


async def _act(key: Key, signals: tuple[Signal, ...], ctx: Context, now: datetime) -> None:
    with logs.about(str(key)):
        for signal in signals:
            word = "fires" if signal.firing else "is resolved"
            about = f" for v{signal.version}" if signal.version is not None else ""
            log.info("alert %s %s%s", signal.name, word, about)
        next_check = await reconcile(key, ctx, now, signals)
    if next_check is not None:
        ctx.queue.add_at(key, next_check)


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
        Key(KIND, namespace, name): signals
        for (namespace, name), signals in found.items()
        if ctx.cache.get(KIND, namespace, name) is not None
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
