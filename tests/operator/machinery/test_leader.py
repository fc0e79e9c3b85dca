"""Leadership: one at a time, quickly over, never shared."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from clockwork import Loop, play
from policy_operator.machinery.errors import AlreadyExists, Conflict, NotFound
from policy_operator.machinery.health import Health
from policy_operator.machinery.leader import (
    LEASE_SECONDS,
    RENEW_DEADLINE,
    RETRY_SECONDS,
    Election,
    LeaseLostError,
)
from policy_operator.machinery.outage import Outage
from policy_operator.settings import Settings

SETTINGS = Settings(label_pod=False)


class Leases:
    """One Lease with a resource version, as the API server keeps it."""

    def __init__(self) -> None:
        self.stored = None
        self.away: set[str] = set()
        self.hanging: set[str] = set()
        self.marks: list[tuple[str, str]] = []
        self.no_pods = False
        self.slow_pods = 0.0

    def client(self, who: str, clock):
        leases = self

        class Client:
            outage = Outage(clock)

            async def get(self, *_):
                await leases.reach(who)
                return leases.stored

            async def merge_patch(self, kind, _namespace, name, patch, *, seen=None):
                assert kind == "Pod"
                await asyncio.sleep(leases.slow_pods)
                if leases.no_pods:
                    raise NotFound(404, "NotFound", f'pods "{name}" not found', "PATCH")
                leases.marks.append((name, patch["metadata"]["labels"]))

            async def list(self, *_):
                return [
                    {"metadata": {"name": "a"}},
                    {"metadata": {"name": "b"}},
                    {"metadata": {"name": "c", "labels": {"app.kubernetes.io/name": "other"}}},
                ]

            async def create(self, manifest):
                await leases.reach(who)
                if leases.stored is not None:
                    raise AlreadyExists(409, "AlreadyExists", "it exists", "POST")
                leases.store(manifest)

            async def replace(self, manifest):
                await leases.reach(who)
                have = leases.stored["metadata"]["resourceVersion"]
                if manifest["metadata"]["resourceVersion"] != have:
                    raise Conflict(409, "Conflict", "it changed", "PUT")
                leases.store(manifest)

        return Client()

    async def reach(self, who: str) -> None:
        if who in self.hanging:
            await asyncio.sleep(3600)
        if who in self.away:
            raise OSError("no route to host")

    def store(self, manifest) -> None:
        old = int(self.stored["metadata"]["resourceVersion"]) if self.stored else 0
        meta = {**manifest["metadata"], "resourceVersion": str(old + 1)}
        self.stored = {**manifest, "metadata": meta}

    @property
    def holder(self) -> str:
        return self.stored["spec"]["holderIdentity"]


def election(leases: Leases, who: str, loop: Loop, *, label: bool = False) -> Election:
    settings = replace(SETTINGS, pod_name=who, label_pod=label)
    return Election(leases.client(who, loop.time), settings, Health(loop.time), loop.time)


@contextlib.asynccontextmanager
async def running(*elections: Election):
    tasks = [asyncio.create_task(e.run()) for e in elections]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_one_of_two_leads_and_keeps_leading():
    async def story(loop: Loop) -> None:
        leases = Leases()
        a, b = election(leases, "a", loop), election(leases, "b", loop)
        async with running(a, b):
            await asyncio.sleep(300)
            assert a.leading.is_set() != b.leading.is_set()
            assert leases.stored["spec"]["leaseTransitions"] == 0

    play(story)


def test_a_released_lease_is_taken_at_once():
    async def story(loop: Loop) -> None:
        leases = Leases()
        a, b = election(leases, "a", loop), election(leases, "b", loop)
        async with running(a):
            await asyncio.sleep(1)
            async with running(b):
                await asyncio.sleep(10)
                await a.release()
                began = loop.time()
                b.nudge(leases.stored)  # the watch brings it
                await b.leading.wait()
                assert loop.time() - began < 0.1
                assert leases.holder == "b"

    play(story)


def test_a_dead_leader_is_replaced_when_its_lease_is_over_and_not_before():
    async def story(loop: Loop) -> None:
        leases = Leases()
        a, b = election(leases, "a", loop), election(leases, "b", loop)
        async with running(a):
            await asyncio.sleep(1)
        async with running(b):
            died = loop.time()
            await b.leading.wait()
            waited = loop.time() - died
            assert LEASE_SECONDS - RETRY_SECONDS <= waited <= LEASE_SECONDS + 2 * RETRY_SECONDS

    play(story)


def test_a_restarted_container_takes_its_own_lease_back_at_once():
    async def story(loop: Loop) -> None:
        leases = Leases()
        async with running(election(leases, "a", loop)):
            await asyncio.sleep(1)
        again = election(leases, "a", loop)
        async with running(again):
            await asyncio.sleep(0.1)
            assert again.leading.is_set()

    play(story)


def test_a_leader_that_cannot_renew_ends_before_another_may_lead():
    async def story(loop: Loop) -> None:
        leases = Leases()
        a, b = election(leases, "a", loop), election(leases, "b", loop)
        async with running(a) as (task,):
            await asyncio.sleep(1)
            async with running(b):
                await asyncio.sleep(4)
                leases.away.add("a")
                with pytest.raises(LeaseLostError, match="not renewed"):
                    await task
                ended = loop.time()
                assert not b.leading.is_set()
                await b.leading.wait()
                assert loop.time() - ended > LEASE_SECONDS - RENEW_DEADLINE - 2 * RETRY_SECONDS

    play(story)


def test_a_leader_whose_lease_was_taken_ends():
    async def story(loop: Loop) -> None:
        leases = Leases()
        a = election(leases, "a", loop)
        async with running(a) as (task,):
            await asyncio.sleep(5)
            stolen = {**leases.stored, "spec": {**leases.stored["spec"], "holderIdentity": "b"}}
            leases.store(stolen)
            at = loop.time()
            with pytest.raises(LeaseLostError, match="b's now"):
                await task
            assert loop.time() - at <= RETRY_SECONDS

    play(story)


def test_renewals_that_fail_at_first_and_hang_at_last_end_the_leader_by_one_deadline():
    """Refused for 9.9 s, then unanswered: pauses and tries do not add up beyond the deadline."""

    async def story(loop: Loop) -> None:
        leases = Leases()
        a = election(leases, "a", loop)
        async with running(a) as (task,):
            await asyncio.sleep(1)
            renewed = loop.time() - 1
            leases.away.add("a")
            await asyncio.sleep(renewed + RENEW_DEADLINE - 0.1 - loop.time())
            leases.hanging.add("a")
            with pytest.raises(LeaseLostError):
                await task
            assert loop.time() - renewed <= RENEW_DEADLINE < LEASE_SECONDS

    play(story)


def test_a_renewal_counts_from_when_it_was_asked_for():
    """The answer may come late: others count from when the API server wrote it."""

    async def story(loop: Loop) -> None:
        leases = Leases()
        a = election(leases, "a", loop)
        real = a._kube.replace

        async def slow(manifest):
            await real(manifest)
            await asyncio.sleep(7)

        async with running(a) as (task,):
            await asyncio.sleep(1)
            a._kube.replace = slow
            asked = loop.time() + 1  # the second try
            await asyncio.sleep(9)
            leases.hanging.add("a")
            with pytest.raises(LeaseLostError):
                await task
            assert loop.time() - asked <= RENEW_DEADLINE

    play(story)


def test_a_process_that_stood_still_leads_no_more():
    """Nothing ran meanwhile, not even the clock of its timers: the next write asks first."""

    async def story(loop: Loop) -> None:
        leases = Leases()
        a = election(leases, "a", loop)
        async with running(a):
            await asyncio.sleep(1)
            assert a.may_write()
            loop.ticks.elapsed += RENEW_DEADLINE
            assert not a.may_write()

    play(story)


def test_marking_the_pod_delays_no_renewal_and_is_tried_again():
    async def story(loop: Loop) -> None:
        leases = Leases()
        leases.slow_pods, leases.no_pods = 40.0, True
        a = election(leases, "a", loop, label=True)
        async with running(a) as (task,):
            await a.leading.wait()
            assert loop.time() == 0
            await asyncio.sleep(120)
            assert not task.done()
            assert leases.holder == "a"
            assert leases.marks == []
            leases.no_pods = False
            await asyncio.sleep(200)
            labels = [(name, next(iter(mark.values()))) for name, mark in leases.marks]
            assert labels == [("a", "true"), ("b", None)]

    play(story)


def test_the_lease_of_another_program_is_not_taken_even_when_it_has_expired():
    async def story(loop: Loop) -> None:
        leases = Leases()
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        leases.stored = {"metadata": {"resourceVersion": "7", "labels": {}}, "spec": spec}
        theirs = leases.stored
        a = election(leases, "a", loop)
        async with running(a):
            await asyncio.sleep(300)
            assert not a.leading.is_set()
            assert leases.stored is theirs
            leases.stored = None
            await asyncio.sleep(2 * RETRY_SECONDS)
            assert a.leading.is_set(), "once the name is free"

    play(story)


def test_an_api_server_that_hangs_is_told_once_a_minute(caplog):
    async def story(loop: Loop) -> None:
        leases = Leases()
        leases.hanging.add("a")
        async with running(election(leases, "a", loop)):
            await asyncio.sleep(300)
        told = [r.getMessage() for r in caplog.records]
        assert told[0] == "the API server has not answered, trying on: no answer about the Lease"
        assert 4 <= len(told) <= 6, told

    play(story)
