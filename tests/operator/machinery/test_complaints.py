"""What Events say of Jobs without pods and pods that do not start, and how seldom it is asked."""

import asyncio
from datetime import UTC, datetime

import pytest
from policy_operator.machinery.complaints import Complaints
from policy_operator.machinery.errors import Denied

T0 = datetime(2026, 1, 1, tzinfo=UTC)
QUOTA = 'pods "a" is forbidden: exceeded quota: q'


def event(uid, note, at="00:00:00Z", kind="Warning", **times):
    times = times or {"deprecatedLastTimestamp": f"2026-01-01T{at}"}
    return {"metadata": {}, "regarding": {"uid": uid}, "note": note, "type": kind, **times}


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now

    def later(self, seconds):
        self.now += seconds


class Events:
    """An API server that has Events and counts who asks."""

    def __init__(self, *events):
        self.events, self.asked = events, []

    async def list(self, kind, namespace, labels=None, fields=None):
        self.asked.append((kind, namespace, fields))
        await asyncio.sleep(0)
        if self.events == ("forbidden",):
            raise Denied(403, "Forbidden", "no right to list events", "GET")
        return list(self.events)


async def test_a_job_is_refused_in_the_words_of_the_newest_event():
    kube = Events(
        event("j", "Error creating: " + QUOTA, "00:00:05Z"),
        event("j", "Error creating: older", "00:00:01Z"),
        event("other", "Error creating: of another"),
    )
    complaints = Complaints(kube)
    assert await complaints.job("ml", "j", None) == QUOTA
    assert await complaints.job("ml", "j", T0) == QUOTA
    assert await complaints.job("ml", "none", None) is None
    assert kube.asked == [("Event", "ml", {"regarding.kind": "Job", "reason": "FailedCreate"})]


async def test_what_was_said_before_the_newest_pod_was_made_is_over():
    complaints = Complaints(Events(event("j", "x", "00:00:05Z")))
    assert await complaints.job("ml", "j", T0.replace(second=5)) == "x"
    assert await complaints.job("ml", "j", T0.replace(second=6)) is None


@pytest.mark.parametrize(
    "times",
    [
        {
            "eventTime": "2026-01-01T00:00:01.5Z",
            "series": {"lastObservedTime": "2026-01-01T01:00:00.1Z"},
        },
        {
            "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
            "deprecatedLastTimestamp": "2026-01-01T01:00:00Z",
        },
    ],
)
async def test_events_of_both_recorders_are_read(times):
    complaints = Complaints(Events(event("j", "x", **times)))
    assert await complaints.job("ml", "j", T0.replace(minute=59)) == "x"


async def test_many_jobs_of_a_namespace_share_one_list():
    kube = Events(*(event(str(i), f"no {i}") for i in range(100)))
    complaints = Complaints(kube)
    said = await asyncio.gather(*(complaints.job("ml", str(i), None) for i in range(100)))
    assert said == [f"no {i}" for i in range(100)]
    assert len(kube.asked) == 1
    await complaints.job("other", "1", None)
    assert len(kube.asked) == 2


async def test_a_pod_says_why_only_while_the_newest_event_is_a_warning():
    mount = event("p", 'configmap "data" not found', "00:00:05Z")
    kube = Events(event("p", "assigned", kind="Normal"), mount)
    assert await Complaints(kube).pod("ml", "p") == 'configmap "data" not found'
    assert kube.asked == [("Event", "ml", {"regarding.uid": "p"})]
    pulls = event("p", "Pulling image", "00:00:06Z", kind="Normal")
    assert await Complaints(Events(mount, pulls)).pod("ml", "p") is None


async def test_many_pods_are_asked_about_one_after_another():
    kube, clock = Events(event("1", "no 1"), event("2", "no 2")), Clock()
    complaints = Complaints(kube, clock)
    assert await complaints.pod("ml", "1") == "no 1"
    assert await complaints.pod("ml", "2") is None
    clock.later(1)
    assert await complaints.pod("ml", "2") == "no 2"
    assert await complaints.pod("ml", "1") == "no 1"  # what was said last
    assert len(kube.asked) == 2
    clock.later(11)
    await complaints.pod("ml", "1")
    assert len(kube.asked) == 3


async def test_what_was_said_stays_while_events_cannot_be_read():
    kube, clock = Events(event("j", "no"), event("p", "no")), Clock()
    complaints = Complaints(kube, clock)
    assert await complaints.job("ml", "j", None) == "no"
    assert await complaints.pod("ml", "p") == "no"
    kube.events = ("forbidden",)
    clock.later(60)
    assert await complaints.job("ml", "j", None) == "no"
    assert await complaints.pod("ml", "p") == "no"
    assert len(kube.asked) == 4


async def test_without_the_right_to_read_events_nothing_else_is_lost():
    complaints = Complaints(Events("forbidden"))
    assert await complaints.job("ml", "j", None) is None
    assert await complaints.pod("ml", "p") is None
