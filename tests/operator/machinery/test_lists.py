"""List and watch: nothing is missed, and what can't be read holds up nothing else."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from clockwork import Loop, play
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import ApiError, NotFound
from policy_operator.machinery.health import Health, place
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.lists import Lists, Scope, Watch
from policy_operator.machinery.outage import Outage, Unreachable
from policy_operator.machinery.queue import Queue

SCOPES = {
    "Job": Scope(labels="mine"),
    "Pod": Scope(),
    "HTTPRoute": Scope(),
    "Service": Scope(namespaces=("ml", "team-b")),
}
FORBIDDEN = ApiError(403, "Forbidden", 'User "x" cannot list resource "pods"', "GET /pods")


def obj(name: str, version: int, namespace: str = "ml", **labels: str) -> dict[str, Any]:
    meta = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": str(version)}
    return {"metadata": {**meta, "labels": labels}}


@dataclass
class Server:
    """Lists in pages of two, and watches that a test ends."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refusals: dict[str, Exception] = field(default_factory=dict)
    watch_refusals: dict[str, Exception] = field(default_factory=dict)
    version: int = 10
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    streams: list[asyncio.Queue[Any]] = field(default_factory=list)

    async def pages(self, kind, namespace, labels, fields):
        scope = SCOPES[kind]
        assert (labels, fields) == (scope.labels, scope.fields)
        assert namespace in scope.namespaces
        what = place(kind, namespace)
        self.calls.append(("list", what, 0))
        if what in self.refusals:
            raise self.refusals[what]
        found = list(self.objects.get(what, []))
        for start in range(0, max(1, len(found)), 2):
            yield found[start : start + 2], self.version
            await asyncio.sleep(0)

    async def watch(self, kind, version, namespace, labels, fields):
        self.calls.append(("watch", kind, version))
        if kind in self.watch_refusals:
            raise self.watch_refusals[kind]
        stream: asyncio.Queue[Any] = asyncio.Queue()
        self.streams.append(stream)
        while (event := await stream.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


class Rig:
    """A cache, what fills it, and the server that it is filled from."""

    def __init__(self, loop: Loop) -> None:
        self.server, self.cache, self.health = Server(), Cache(), Health(loop.time)
        self.intake = Intake(self.cache, Queue(loop.now), self.health)
        self.lists = Lists(self.server, self.cache, self.intake, self.health, SCOPES)

    def names(self, kind: str) -> list[str]:
        return [o["metadata"]["name"] for o in self.cache.list(kind)]

    @contextlib.asynccontextmanager
    async def watching(self, kind: str):
        watch = Watch(kind, None, self.lists, self.server, self.intake.event)
        task = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def tell(self, event: Any) -> None:
        self.server.streams[-1].put_nowait(event)


def test_a_list_drops_what_vanished_and_keeps_what_is_newer_than_it():
    async def story(loop: Loop) -> None:
        rig = Rig(loop)
        for name, version in (("gone", 3), ("kept", 4), ("written-after", 12)):
            rig.cache.put("Job", obj(name, version))
        rig.server.objects["Job"] = [obj("kept", 4), obj("fresh", 9), obj("third", 8)]
        assert await rig.lists.read("Job", None) == 10
        assert rig.names("Job") == ["fresh", "kept", "third", "written-after"]
        assert rig.cache.synced("Job")

    play(story)


def test_a_kind_that_is_refused_holds_up_no_other_and_is_asked_for_less_and_less(caplog):
    async def story(loop: Loop) -> None:
        rig = Rig(loop)
        rig.server.refusals["Pod"] = FORBIDDEN
        rig.server.refusals["HTTPRoute"] = NotFound(404, "NotFound", "no such API", "GET")
        rig.server.objects["Job"] = [obj("a", 1)]
        async with rig.watching("Pod"), rig.watching("Job"):
            await rig.lists.read_all()
            assert rig.health.synced
            assert rig.health.denied == {"Pod": FORBIDDEN.message}
            await asyncio.sleep(600)
            assert rig.names("Job") == ["a"]
            asked = [c for c in rig.server.calls if c[:2] == ("list", "Pod")]
            assert len(asked) < 80
            assert rig.server.calls.count(("list", "Job", 0)) == 2
            rig.server.refusals.clear()
            rig.server.objects["Pod"] = [obj("b", 2)]
            await asyncio.sleep(31)
            assert rig.names("Pod") == ["b"]
            assert not rig.health.denied
        told = [r.getMessage() for r in caplog.records]
        assert told == [f"Pod can't be read, and what needs it waits: {FORBIDDEN.message}"]

    play(story)


def test_each_namespace_is_read_by_itself_and_one_that_is_refused_holds_up_no_other():
    async def story(loop: Loop) -> None:
        rig = Rig(loop)
        for name, where in (("gone", "ml"), ("theirs", "team-b")):
            rig.cache.put("Service", obj(name, 3, where))
        rig.server.objects["Service in ml"] = [obj("fresh", 4)]
        rig.server.refusals["Service in team-b"] = FORBIDDEN
        await rig.lists.read_all("Service")
        assert rig.names("Service") == ["fresh", "theirs"]
        assert rig.health.denied == {"Service in team-b": FORBIDDEN.message}
        rig.server.refusals.clear()
        await rig.lists.read_all("Service")
        assert (rig.names("Service"), rig.health.denied) == (["fresh"], {})

    play(story)


def test_a_watch_that_is_refused_is_said_as_well():
    async def story(loop: Loop) -> None:
        rig = Rig(loop)
        rig.server.watch_refusals["Pod"] = FORBIDDEN
        async with rig.watching("Pod"):
            await asyncio.sleep(600)
            assert rig.health.denied == {"Pod": FORBIDDEN.message}
            assert len(rig.server.calls) < 80
            rig.server.watch_refusals.clear()
            await asyncio.sleep(31)
            assert not rig.health.denied

    play(story)


def test_a_watch_goes_on_where_it_ended_and_lists_again_when_that_is_forgotten():
    async def story(loop: Loop) -> None:
        rig = Rig(loop)
        rig.server.objects["Job"] = [obj("a", 1)]
        async with rig.watching("Job"):
            await asyncio.sleep(1)
            rig.tell(("ADDED", obj("b", 11)))
            rig.tell(("BOOKMARK", {"metadata": {"resourceVersion": "15"}}))
            rig.tell(Unreachable("the connection broke"))
            await asyncio.sleep(2)
            assert rig.names("Job") == ["a", "b"]
            assert rig.server.calls[-1] == ("watch", "Job", 15)
            rig.server.version, rig.server.objects["Job"] = 30, [obj("c", 25)]
            rig.tell(ApiError(410, "Expired", "too old resource version", "WATCH"))
            await asyncio.sleep(2)
            assert rig.names("Job") == ["c"]
            assert rig.server.calls[-1] == ("watch", "Job", 30)
            rig.tell(("DELETED", obj("c", 31)))
            await asyncio.sleep(1)
            assert rig.names("Job") == []

    play(story)


def test_an_outage_is_said_once_a_minute_and_its_end_once(caplog):
    now, over = [0.0], []
    outage = Outage(lambda: now[0])
    outage.over = lambda: over.append(now[0])
    caplog.set_level("INFO")
    outage.answered()
    for second in range(180):
        now[0] = float(second)
        outage.failed(OSError("connection refused"))
        outage.failed(TimeoutError())
    outage.answered()
    outage.answered()
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 3 + ["INFO"]
    assert "after 179 s" in caplog.records[-1].getMessage()
    assert over == [179.0]
