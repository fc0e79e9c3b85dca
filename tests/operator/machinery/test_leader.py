"""Leadership: one at a time, quickly over, never shared."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from clockwork import Loop, play
from policy_operator.machinery.health import Health
from policy_operator.machinery.kube import AlreadyExists, Conflict
from policy_operator.machinery.leader import (
    LEASE_SECONDS,
    RENEW_DEADLINE,
    RETRY_SECONDS,
    Election,
    LeaseLostError,
)
from policy_operator.settings import Settings

SETTINGS = Settings(label_pod=False)


class Leases:
    """One Lease with a resource version, as the API server keeps it."""

    def __init__(self) -> None:
        self.stored = None
        self.away: set[str] = set()

    def client(self, who: str):
        leases = self

        class Client:
            async def get(self, *_):
                leases.reach(who)
                return leases.stored

            async def create(self, manifest):
                leases.reach(who)
                if leases.stored is not None:
                    raise AlreadyExists(409, "AlreadyExists", "it exists", "POST")
                leases.store(manifest)

            async def replace(self, manifest):
                leases.reach(who)
                have = leases.stored["metadata"]["resourceVersion"]
                if manifest["metadata"]["resourceVersion"] != have:
                    raise Conflict(409, "Conflict", "it changed", "PUT")
                leases.store(manifest)

        return Client()

    def reach(self, who: str) -> None:
        if who in self.away:
            raise OSError("no route to host")

    def store(self, manifest) -> None:
        old = int(self.stored["metadata"]["resourceVersion"]) if self.stored else 0
        meta = {**manifest["metadata"], "resourceVersion": str(old + 1)}
        self.stored = {**manifest, "metadata": meta}

    @property
    def holder(self) -> str:
        return self.stored["spec"]["holderIdentity"]


def election(leases: Leases, who: str, loop: Loop) -> Election:
    settings = replace(SETTINGS, pod_name=who)
    return Election(leases.client(who), settings, Health(loop.time), loop.time)


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
