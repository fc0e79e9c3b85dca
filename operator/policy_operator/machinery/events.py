"""Kubernetes Events (events.k8s.io/v1) for what a user must know; `kubectl describe` shows them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from policy_api.keys import FIELD_MANAGER

from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import ApiError, NamespaceTerminating
from policy_operator.machinery.kube import Kube
from policy_operator.machinery.outage import Unreachable

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
_CROWD = 500  # events that wait behind work that is more urgent; beyond this they go out
_BACKLOG = 1000  # events that wait; beyond this the oldest news is no longer worth a call
_NOTE_LIMIT = 1024  # characters, a limit of the API


@dataclass(frozen=True)
class Event:
    """What a user is to be told."""

    type: EventType
    reason: str
    message: str


def build(regarding: Obj, event: Event, *, reporter: str, now: datetime) -> Obj:
    """Return the API's Event about an object."""
    meta, note = regarding["metadata"], event.message
    name = meta["name"][:200]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{uuid4().hex[:16]}", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"policyops.dev/{FIELD_MANAGER}",
        "reportingInstance": reporter[:128],
        "action": "Reconcile",
        "reason": event.reason[:128],
        "note": note if len(note) <= _NOTE_LIMIT else note[: _NOTE_LIMIT - 1] + "…",
        "type": event.type,
        "regarding": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion", ""),
        },
    }


class EventRecorder:
    """Sends Events in the background: a reconcile never waits for one, nor fails by one."""

    def __init__(self, kube: Kube, reporter: str, turn: Callable[[], Awaitable[None]]) -> None:
        """Make a recorder.

        Args:
            kube: The API server.
            reporter: Who tells: the operator's pod.
            turn: Waits for a while where more urgent calls are to be made.
        """
        self._kube = kube
        self._reporter = reporter
        self._turn = turn
        self._backlog: asyncio.Queue[Obj] = asyncio.Queue(_BACKLOG)

    def emit(self, regarding: Obj, event: Event) -> None:
        """Send an Event about an object (a PolicyTraining, a PolicyDeployment), and log it."""
        meta = regarding["metadata"]
        level = logging.WARNING if event.type == "Warning" else logging.INFO
        log.log(
            level,
            "%s: %s",
            event.reason,
            event.message,
            extra={"object": f"{meta['namespace']}/{meta['name']} {regarding['kind']}"},
        )
        made = build(regarding, event, reporter=self._reporter, now=datetime.now(UTC))
        try:
            self._backlog.put_nowait(made)
        except asyncio.QueueFull:
            log.warning("too many events wait, one is dropped: %s", event.reason)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            event = await self._backlog.get()
            if self._backlog.qsize() < _CROWD:
                await self._turn()
            try:
                await self._kube.create(event)
            except NamespaceTerminating:
                continue  # nobody will read it
            except Unreachable:
                continue  # the status has the same news, and comes when the API server is back
            except (ApiError, OSError) as error:
                # the status has the same news
                log.warning("an event could not be sent: %s", error)
