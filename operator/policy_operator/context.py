"""What a reconciler works with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from policy_operator.access.tls import Authority
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.complaints import Complaints
from policy_operator.machinery.events import EventRecorder
from policy_operator.machinery.health import place
from policy_operator.machinery.kube import Kube
from policy_operator.machinery.progress import ProgressStore
from policy_operator.machinery.queue import Queue
from policy_operator.monitoring.prometheus import Monitor
from policy_operator.registry.numbers import Numbers
from policy_operator.settings import Settings


@dataclass(frozen=True)
class Context:
    """The operator's parts, made once by `main`."""

    kube: Kube
    cache: Cache
    queue: Queue
    events: EventRecorder
    settings: Settings
    http: aiohttp.ClientSession
    """For calls to others than the API server (Prometheus); has a timeout of 10 s."""
    progress: ProgressStore
    monitor: Monitor
    """What Prometheus last said; `main` runs its loop while it leads."""
    numbers: Numbers
    authority: Authority
    complaints: Complaints
    denied: Mapping[str, str] = field(default_factory=dict)
    """What we may not read now (`health.place`), and the API server's sentence about it."""

    def unreadable(self, namespace: str, *kinds: str) -> str | None:
        """Say why one of these kinds can't be read there, if so: what needs it must wait."""
        places = (place(kind, where) for kind in kinds for where in (None, namespace))
        return next((self.denied[p] for p in places if p in self.denied), None)
