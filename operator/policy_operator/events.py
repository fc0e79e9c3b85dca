"""Kubernetes Events (events.k8s.io/v1) for what a user must know; `kubectl describe` shows them."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from policy_api.keys import FIELD_MANAGER

from policy_operator.cache import Obj
from policy_operator.kube import ApiError, Kube, NamespaceTerminating

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
_BACKLOG = 1000  # events that wait; beyond this the oldest news is no longer worth a call
_NOTE_LIMIT = 1024  # characters, a limit of the API


def build(
    regarding: Obj, kind: EventType, reason: str, note: str, *, reporter: str, now: datetime
) -> Obj:
    """Return the Event about an object."""
    meta = regarding["metadata"]
    name = meta["name"][:200]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{uuid4().hex[:16]}", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"policyops.dev/{FIELD_MANAGER}",
        "reportingInstance": reporter[:128],
        "action": "Reconcile",
        "reason": reason[:128],
        "note": note if len(note) <= _NOTE_LIMIT else note[: _NOTE_LIMIT - 1] + "…",
        "type": kind,
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

    def __init__(self, kube: Kube, reporter: str) -> None:
        self._kube = kube
        self._reporter = reporter
        self._backlog: asyncio.Queue[Obj] = asyncio.Queue(_BACKLOG)

    def emit(self, regarding: Obj, kind: EventType, reason: str, note: str) -> None:
        """Send an Event about an object (a PolicyTraining, a PolicyDeployment), and log it."""
        meta = regarding["metadata"]
        level = logging.WARNING if kind == "Warning" else logging.INFO
        log.log(
            level,
            "%s: %s",
            reason,
            note,
            extra={"object": f"{meta['namespace']}/{meta['name']} {regarding['kind']}"},
        )
        event = build(regarding, kind, reason, note, reporter=self._reporter, now=datetime.now(UTC))
        try:
            self._backlog.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("too many events wait, one is dropped: %s", reason)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            event = await self._backlog.get()
            try:
                await self._kube.create(event)
            except NamespaceTerminating:
                continue  # nobody will read it
            except (ApiError, OSError, TimeoutError) as error:
                # the status has the same news
                log.warning("an event could not be sent: %s", error)
