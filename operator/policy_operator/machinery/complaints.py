"""What Events say of Jobs that get no pods and of pods that do not start.

A refusal of a pod (a quota, a LimitRange, Pod Security, a webhook) is told by an Event alone, and
so is a volume that can't be mounted. Events are many and live for an hour: they are not watched,
but asked for when something takes long. Trainings that wait for one quota share one answer.
"""

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from policy_operator.machinery.cache import Obj, Objs
from policy_operator.machinery.kube import ApiError, Kube

log = logging.getLogger(__name__)

_FRESH = 10.0  # seconds for which an answer about a namespace's Jobs is believed
_FAILED_CREATE = {"regarding.kind": "Job", "reason": "FailedCreate"}
_PREFIX = "Error creating: "  # the Job controller's; the API server's own words follow


@dataclass(frozen=True)
class Complaint:
    """The newest Event about an object."""

    at: datetime
    warning: bool
    note: str

    @staticmethod
    def parse(event: Obj) -> "Complaint":
        """Read an Event, whichever of the two recorders has written it."""
        times = (
            (event.get("series") or {}).get("lastObservedTime"),
            event.get("deprecatedLastTimestamp"),
            event.get("eventTime"),
            event["metadata"].get("creationTimestamp"),
        )
        return Complaint(
            at=max(datetime.fromisoformat(t) for t in times if t),
            warning=event.get("type") == "Warning",
            note=str(event.get("note") or "").removeprefix(_PREFIX),
        )


def newest(events: Objs) -> dict[str, Complaint]:
    """Return the newest Event of each object, by the object's uid."""
    found: dict[str, Complaint] = {}
    for event in events:
        uid, said = (event.get("regarding") or {}).get("uid", ""), Complaint.parse(event)
        if uid not in found or found[uid].at <= said.at:
            found[uid] = said
    return found


@dataclass
class _Answer:
    """What was said of the Jobs of one namespace."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    said: dict[str, Complaint] = field(default_factory=dict)


class Complaints:
    """Asks for Events. It keeps answers for seconds only; nothing is lost with it."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._answers: defaultdict[str, _Answer] = defaultdict(_Answer)

    async def job(self, namespace: str, uid: str, since: datetime | None) -> str | None:
        """Return why a Job's pods are refused.

        Args:
            namespace: The Job's.
            uid: The Job's.
            since: When its newest pod was made: what was said before that is over.
        """
        answer = self._answers[namespace]
        async with answer.lock:
            if time.monotonic() - answer.at > _FRESH:
                answer.said = newest(await self._list(namespace, _FAILED_CREATE))
                answer.at = time.monotonic()
                self._forget_old()
        said = answer.said.get(uid)
        return said.note if said is not None and (since is None or said.at >= since) else None

    async def pod(self, namespace: str, uid: str) -> str | None:
        """Return why a pod does not start, if the newest Event about it is a warning."""
        said = newest(await self._list(namespace, {"regarding.uid": uid})).get(uid)
        return said.note if said is not None and said.warning else None

    async def _list(self, namespace: str, fields: dict[str, str]) -> Objs:
        try:
            return await self._kube.list("Event", namespace, fields=fields)
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("events can't be read, so a refusal of pods is not told: %s", error)
            return []

    def _forget_old(self) -> None:
        """Drop what nobody asks for any more."""
        limit = time.monotonic() - _FRESH
        for namespace, answer in list(self._answers.items()):
            if answer.at < limit and not answer.lock.locked():
                del self._answers[namespace]
