"""Leader election by a Lease: one process reconciles, the others stand by with warm caches.

The rules of client-go, with the monotonic clock. kubernetes.aio's own election compares wall
clocks, logs what it should raise, and never releases the Lease; a takeover would take 15 s after
every update. The identity is the pod's name: a container that is restarted in its pod takes its
own Lease back at once, since the kubelet starts it only after the old one is dead.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from policy_api.keys import FIELD_MANAGER, LABEL_LEADER, LABEL_MANAGED_BY

from policy_operator.machinery import metrics
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.health import Health
from policy_operator.machinery.kube import AlreadyExists, ApiError, Conflict, Kube
from policy_operator.settings import Settings

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_DEADLINE = 10.0
RETRY_SECONDS = 2.0


class LeaseLostError(RuntimeError):
    """Another process leads, or may lead soon."""


def micro_time(now: datetime) -> str:
    """Format a time as a Lease has it."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lease(settings: Settings, old: Obj | None, holder: str, now: datetime) -> Obj:
    """Return the Lease as this process wants it; an empty holder releases it."""
    spec = dict((old or {}).get("spec") or {})
    before = spec.get("holderIdentity") or ""
    if before != holder and holder:
        spec["acquireTime"] = micro_time(now)
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (old is not None)
    spec["holderIdentity"] = holder
    spec["renewTime"] = micro_time(now)
    spec["leaseDurationSeconds"] = LEASE_SECONDS if holder else 1
    metadata: Obj = {
        "name": settings.lease_name,
        "namespace": settings.namespace,
        "labels": {LABEL_MANAGED_BY: FIELD_MANAGER},
    }
    if old is not None:
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }


class Election:
    """Competes for the Lease, then keeps it."""

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._health = health
        self._clock = clock
        self._seen: tuple[str, float] | None = None  # the record's version, when it was first seen
        self._wake = asyncio.Event()
        self._released = False
        self.leading = asyncio.Event()

    def nudge(self, obj: Obj) -> None:
        """Hear of the Lease from the watch: one that is free is worth an immediate try."""
        if not (obj.get("spec") or {}).get("holderIdentity"):
            self._wake.set()

    def _free(self, found: Obj) -> bool:
        """Whether the Lease may be taken: ours, released, or not renewed for its duration."""
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        version = found["metadata"]["resourceVersion"]
        now = self._clock()
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        if holder in ("", self._settings.pod_name):
            return True
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    async def _try(self) -> bool:
        """Take or renew the Lease once; say whether we hold it."""
        settings = self._settings
        found = await self._kube.get("Lease", settings.namespace, settings.lease_name)
        self._health.contact()
        if found is not None and not self._free(found):
            if self.leading.is_set():
                raise LeaseLostError(f"the Lease is {found['spec']['holderIdentity']}'s now")
            return False
        wanted = lease(settings, found, settings.pod_name, datetime.now(UTC))
        try:
            if found is None:
                await self._kube.create(wanted)
            else:
                await self._kube.replace(wanted)
        except (AlreadyExists, Conflict):
            return False
        return True

    async def run(self) -> None:
        """Wait until we lead, then renew until the Lease is lost.

        Raises:
            LeaseLostError: the process must end at once.
        """
        while not await self._attempt():
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), RETRY_SECONDS)
            except TimeoutError:
                continue
        await self._mark()
        log.info("leading as %s", self._settings.pod_name)
        self.leading.set()
        metrics.LEADER.set(1)
        renewed = self._clock()
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if self._released:
                return
            if await self._attempt():
                renewed = self._clock()
            elif self._clock() - renewed > RENEW_DEADLINE:
                raise LeaseLostError(f"the Lease was not renewed for {RENEW_DEADLINE:.0f} s")

    async def _attempt(self) -> bool:
        try:
            # A call that hangs must not outlive the deadline, after which another may lead.
            return await asyncio.wait_for(self._try(), RENEW_DEADLINE / 2)
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("the Lease could not be read or written: %s", error)
            return False

    async def _mark(self) -> None:
        """Label our pod, so that the Service sends everything here, and unlabel the last leader."""
        settings = self._settings
        if not settings.label_pod:
            return
        await self._kube.merge_patch(
            "Pod", settings.namespace, settings.pod_name, _labels({LABEL_LEADER: "true"})
        )
        for pod in await self._kube.list("Pod", settings.namespace, {LABEL_LEADER: "true"}):
            name = pod["metadata"]["name"]
            if name != settings.pod_name:
                await self._kube.merge_patch(
                    "Pod", settings.namespace, name, _labels({LABEL_LEADER: None})
                )

    async def release(self) -> None:
        """Give the Lease away, so that another takes over at once. The caller has stopped work."""
        if not self.leading.is_set():
            return
        self._released = True
        settings = self._settings
        found = await self._kube.get("Lease", settings.namespace, settings.lease_name)
        if found is None or found["spec"].get("holderIdentity") != settings.pod_name:
            return
        await self._kube.replace(lease(settings, found, "", datetime.now(UTC)))


def _labels(labels: dict[str, str | None]) -> Obj:
    return {"metadata": {"labels": labels}}
