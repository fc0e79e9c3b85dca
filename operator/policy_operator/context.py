"""What a reconciler works with."""

from dataclasses import dataclass

import aiohttp

from policy_operator.cache import Cache
from policy_operator.events import EventRecorder
from policy_operator.kube import Kube
from policy_operator.progress import ProgressStore
from policy_operator.prometheus import Monitor
from policy_operator.queue import Queue
from policy_operator.settings import Settings
from policy_operator.tls import Authority
from policy_operator.versions import Numbers


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
