"""Leader election by a Lease: one process reconciles, the others stand by with warm caches.

The rules of client-go, with the monotonic clock. kubernetes.aio's own election compares wall
clocks, logs what it should raise, and never releases the Lease; a takeover would take 15 s after
every update. The identity is the pod's name: a container that is restarted in its pod takes its
own Lease back at once, since the kubelet starts it only after the old one is dead.

A leader leads for at most `RENEW_DEADLINE` after it *began* the last renewal that succeeded. Others
take the Lease no earlier than `LEASE_SECONDS` after they *saw* that renewal, which is later.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from policy_api.keys import FIELD_MANAGER, LABEL_LEADER, LABEL_MANAGED_BY, LABEL_PROGRAM

from policy_operator.machinery import metrics
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import AlreadyExists, ApiError, Conflict, NotFound
from policy_operator.machinery.health import Health
from policy_operator.machinery.kube import Kube, urgent
from policy_operator.machinery.outage import Unreachable
from policy_operator.settings import Settings

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_DEADLINE = 10.0
RETRY_SECONDS = 2.0
_MARK_AGAIN_MOST = 60.0  # seconds between tries to label our pod


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
        self._leads_until = math.inf  # without an election nobody else leads
        self.leading = asyncio.Event()

    def nudge(self, obj: Obj) -> None:
        """Hear of the Lease from the watch: one that is free is worth an immediate try."""
        if not (obj.get("spec") or {}).get("holderIdentity"):
            self._wake.set()

    def _ours(self, found: Obj) -> bool:
        """Whether the Lease is the operator's: it makes it with its label."""
        label = (found["metadata"].get("labels") or {}).get(LABEL_MANAGED_BY)
        holder = (found.get("spec") or {}).get("holderIdentity")
        return label == FIELD_MANAGER or holder == self._settings.pod_name

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
        if found is not None and not self._ours(found):
            log.error(
                "Lease %s/%s is another program's: nobody leads. Delete it, or set POLICYOPS_LEASE",
                settings.namespace,
                settings.lease_name,
            )
            return False
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
        urgent.set(True)
        while not await self._attempt(self._clock() + RENEW_DEADLINE / 2):
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), RETRY_SECONDS)
        log.info("leading as %s", self._settings.pod_name)
        self.leading.set()
        metrics.LEADER.set(1)
        marking = asyncio.create_task(self._mark_until_done(), name="mark")
        try:
            await self._renew()
        finally:
            marking.cancel()

    async def _renew(self) -> None:
        """Renew until the Lease is released."""
        while True:
            await asyncio.sleep(min(RETRY_SECONDS, self._leads_until - self._clock()))
            if self._released:
                return
            if not self.may_write():
                raise LeaseLostError(f"the Lease was not renewed for {RENEW_DEADLINE:.0f} s")
            await self._attempt(self._leads_until)

    def may_write(self) -> bool:
        """Whether nobody else can lead yet, if we do; asked before every write.

        A process that stood still (a paused machine) wakes up with writes that are due before the
        timer that ends it.
        """
        return not self.leading.is_set() or self._clock() < self._leads_until

    async def _attempt(self, deadline: float) -> bool:
        """Try once, until the deadline at the latest; say whether we hold the Lease."""
        # An answer says nothing about when it was decided: what counts is when we asked.
        began = self._clock()
        try:
            async with asyncio.timeout(max(0.0, deadline - began)):
                held = await self._try()
        except Unreachable:
            return False
        except TimeoutError:
            self._kube.outage.failed(TimeoutError("no answer about the Lease"))
            return False
        except (ApiError, OSError) as error:
            log.warning("the Lease could not be read or written: %s", error)
            return False
        if held:
            self._leads_until = began + RENEW_DEADLINE
        return held

    async def _mark_until_done(self) -> None:
        """Label our pod beside the renewals; a Lease is held without the label as well."""
        delay, last = RETRY_SECONDS, ""
        while True:
            try:
                await self._mark()
            except (ApiError, OSError, TimeoutError) as error:
                if str(error) != last:
                    log.warning("our pod could not be labelled as the leader's: %s", error)
                last = str(error)
            else:
                return
            await asyncio.sleep(delay)
            delay = min(_MARK_AGAIN_MOST, delay * 2)

    async def _mark(self) -> None:
        """Label our pod, so that the Service sends everything here, and unlabel the last leader."""
        settings = self._settings
        if not settings.label_pod:
            return
        await self._kube.merge_patch(
            "Pod", settings.namespace, settings.pod_name, _labels({LABEL_LEADER: "true"})
        )
        pods = await self._kube.list("Pod", settings.namespace, {LABEL_LEADER: "true"})
        program = {p["metadata"]["name"]: _program(p) for p in pods}
        for pod in pods:
            name = pod["metadata"]["name"]
            if name == settings.pod_name or program[name] != program.get(settings.pod_name):
                continue  # a pod of another program may be labelled as it likes
            with contextlib.suppress(NotFound):  # it ended meanwhile
                await self._kube.merge_patch(
                    "Pod", settings.namespace, name, _labels({LABEL_LEADER: None}), seen=pod
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


def _program(pod: Obj) -> str | None:
    """Return what the Service selects our pods by."""
    value: str | None = (pod["metadata"].get("labels") or {}).get(LABEL_PROGRAM)
    return value


def _labels(labels: dict[str, str | None]) -> Obj:
    return {"metadata": {"labels": labels}}
