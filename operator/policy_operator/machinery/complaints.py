"""What Events say of Jobs that get no pods and of pods that do not start.

A refusal of a pod (a quota, a LimitRange, Pod Security, a webhook) is told by an Event alone, and
so is a volume that can't be mounted. Events are many and live for an hour: they are not watched,
but asked for when something takes long. Trainings that wait for one quota share one answer.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from policy_operator.machinery.cache import Obj, Objs
from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.kube import Kube

log = logging.getLogger(__name__)

_FRESH = 10.0  # seconds for which an answer is believed
_BETWEEN_PODS = 0.5  # seconds between calls for pods
_REMEMBERED = 2_000  # answers
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
    """The newest Events about the Jobs of a namespace, or about a pod."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    said: dict[str, Complaint] = field(default_factory=dict)


class Complaints:
    """Asks for Events, seldom. What it remembers saves calls; nothing is lost with it."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._pod_asked = float("-inf")

    async def job(self, namespace: str, uid: str, since: datetime | None) -> str | None:
        """Return why a Job's pods are refused.

        Args:
            namespace: The Job's.
            uid: The Job's.
            since: When its newest pod was made: what was said before that is over.
        """
        answer = self._answer("Job", namespace)
        async with answer.lock:
            if self._clock() - answer.at > _FRESH:
                await self._ask(answer, namespace, _FAILED_CREATE)
        said = answer.said.get(uid)
        return said.note if said is not None and (since is None or said.at >= since) else None

    async def pod(self, namespace: str, uid: str) -> str | None:
        """Return why a pod does not start, if the newest Event about it is a warning.

        Each pod is a call, which reads all Events of its namespace in the API server. When many
        pods start at once, most are told nothing for a while, or what was said last.
        """
        answer = self._answer("Pod", uid)
        now = self._clock()
        if now - answer.at > _FRESH and now - self._pod_asked > _BETWEEN_PODS:
            self._pod_asked = now
            await self._ask(answer, namespace, {"regarding.uid": uid})
        said = answer.said.get(uid)
        return said.note if said is not None and said.warning else None

    def _answer(self, kind: str, name: str) -> _Answer:
        """Return what was said last; what was asked for longest ago is forgotten."""
        answer = self._answers.setdefault((kind, name), _Answer())
        self._answers.move_to_end((kind, name))
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    async def _ask(self, answer: _Answer, namespace: str, fields: dict[str, str]) -> None:
        """Bring an answer up to date; when that fails, what was said before stays."""
        answer.at = self._clock()
        try:
            answer.said = newest(await self._kube.list("Event", namespace, fields=fields))
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("events can't be read, so a refusal of pods is not told: %s", error)
