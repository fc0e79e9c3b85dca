"""What was decided on is never older than what has been told, whichever way it came first."""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

from clockwork import Loop, play
from hypothesis import example, given
from hypothesis import strategies as st
from policy_operator.machinery.cache import Cache, resource_version
from policy_operator.machinery.errors import Conflict
from policy_operator.machinery.health import Health
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.queue import Key, Queue

A = Key("PolicyTraining", "ml", "a")
B = Key("PolicyTraining", "ml", "b")
POLL = 300  # seconds: what would be found by then anyway counts as lost


@dataclass
class Cluster:
    """Two trainings on an API server whose watch is slow; a reconcile that writes the status."""

    loop: Loop
    decided: dict[Key, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache, self.queue = Cache(), Queue(self.loop.now)
        self.intake = Intake(self.cache, self.queue, Health(self.loop.time))
        self.version = 100
        self.stored: dict[str, dict[str, Any]] = {}
        self.untold: list[dict[str, Any]] = []

    def store(self, name: str, **update: Any) -> dict[str, Any]:
        """Write an object; the watch tells of it later."""
        self.version += 1
        meta = {"namespace": "ml", "name": name, "uid": name}
        old = self.stored.get(name, {"metadata": meta, "spec": {}, "status": {}})
        new = copy.deepcopy({**old, **update})
        new["metadata"]["resourceVersion"] = str(self.version)
        self.stored[name] = new
        self.untold.append(new)
        return new

    def tell(self) -> None:
        """The watch delivers what has happened, in its order."""
        for obj in self.untold:
            self.intake.event("PolicyTraining", "MODIFIED", obj)
        self.untold.clear()

    async def reconcile(self, key: Key) -> None:
        """Read, think, write the status: the write takes a while each way."""
        for _ in range(5):
            seen = self.cache.get(key.kind, "ml", key.name)
            if seen is None:
                return
            base = self.cache.get(key.kind, "ml", (seen["spec"].get("base") or {}).get("name", ""))
            decided = (seen["spec"].get("edit", 0), base["spec"].get("edit", 0) if base else 0)
            await asyncio.sleep(1)
            self.decided[key] = decided
            if seen["status"].get("edit") == list(decided):
                return
            try:
                answer = self.patch(key.name, seen, {"edit": list(decided)})
            except Conflict:
                answer = copy.deepcopy(self.stored[key.name])
                await asyncio.sleep(1)
                self.intake.answer(key.kind, answer, False)
            else:
                await asyncio.sleep(1)
                self.intake.answer(key.kind, answer, True)
                return

    def patch(self, name: str, seen: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        if resource_version(seen) != resource_version(self.stored[name]):
            raise Conflict(409, "Conflict", "the object has been modified", "PATCH")
        return self.store(name, status=status)

    def wanted(self, name: str) -> tuple[int, int]:
        spec = self.stored[name]["spec"]
        base = self.stored.get((spec.get("base") or {}).get("name", ""))
        return spec.get("edit", 0), base["spec"].get("edit", 0) if base else 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["edit a", "edit b", "relate", "tell", "read a"]), st.floats(0, 2)),
    max_size=12,
)


@given(STEPS)
# A user's edit, our status write on top of it, its answer, and only then both events.
@example([("edit a", 1.5), ("edit a", 2.0)])
# The edit makes b the base of a, which the answer to our own write tells first.
@example([("tell", 0.5), ("relate", 2.0), ("tell", 2.0), ("edit b", 0.5), ("tell", 0)])
@example([("relate", 0.5), ("read a", 1.0), ("tell", 1.0), ("edit b", 1.0), ("tell", 0)])
def test_the_last_decision_knows_the_last_edit(steps):
    async def story(loop: Loop) -> None:
        cluster = Cluster(loop)
        workers = asyncio.create_task(cluster.queue.run(cluster.reconcile, 2))
        for name in ("a", "b"):
            cluster.store(name)
        cluster.tell()
        for number, (what, pause) in enumerate(steps, 1):
            match what.split():
                case ["edit", name]:
                    spec = {**cluster.stored[name]["spec"], "edit": number}
                    cluster.store(name, spec=spec)
                case ["relate"]:
                    spec = {"base": {"training": {"name": "b"}, "name": "b"}, "edit": number}
                    cluster.store("a", spec=spec)
                case ["read", name]:
                    cluster.intake.answer(
                        "PolicyTraining", copy.deepcopy(cluster.stored[name]), False
                    )
                case _:
                    cluster.tell()
            await asyncio.sleep(pause)
        cluster.tell()
        await asyncio.sleep(POLL / 2)
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)
        for key in (A, B):
            assert cluster.decided[key] == cluster.wanted(key.name), key

    play(story)


def test_who_wrote_an_object_on_what_was_decided_is_not_woken_by_it():
    async def story(loop: Loop) -> None:
        cluster = Cluster(loop)
        runs = []

        async def reconcile(key: Key) -> None:
            runs.append(key)
            await cluster.reconcile(key)

        workers = asyncio.create_task(cluster.queue.run(reconcile, 2))
        cluster.store("a", spec={"edit": 1})
        cluster.tell()
        await asyncio.sleep(10)
        cluster.tell()
        await asyncio.sleep(10)
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)
        assert runs == [A]

    play(story)


def test_a_rollouts_own_status_is_looked_at_again():
    """Its next step may be due at once: after a restart all else is known already."""

    async def story(loop: Loop) -> None:
        cache, queue = Cache(), Queue(loop.now)
        intake = Intake(cache, queue, Health(loop.time))
        key, runs = Key("PolicyDeployment", "ml", "a"), []

        async def reconcile(_: Key) -> None:
            runs.append(loop.time())
            if len(runs) == 1:
                meta = {"namespace": "ml", "name": "a", "uid": "a", "resourceVersion": "7"}
                answer = {"metadata": meta, "spec": {}, "status": {"state": "WaitingForServer"}}
                intake.answer("PolicyDeployment", answer, True)

        workers = asyncio.create_task(queue.run(reconcile, 2))
        queue.add(key)
        await asyncio.sleep(10)
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)
        assert len(runs) == 2

    play(story)
