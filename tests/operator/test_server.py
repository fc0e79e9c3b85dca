"""The HTTPS endpoints over real HTTP: who may call, what is refused and with which sentence."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer
from policy_operator.access.auth import PodIdentity, Trainers, pod_identity, same_token
from policy_operator.access.tls import Authority
from policy_operator.context import Context
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.complaints import Complaints
from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.events import EventRecorder
from policy_operator.machinery.health import Health
from policy_operator.machinery.progress import ProgressStore
from policy_operator.machinery.queue import Key, Queue
from policy_operator.monitoring.prometheus import Monitor
from policy_operator.registry.numbers import Numbers
from policy_operator.server import MAX_ALERT_BYTES, MAX_PROGRESS_BYTES, PublicServer, private_app
from policy_operator.settings import Settings

STATUS = "/v1/namespaces/ml/policytrainings/sft/status"
GOOD = {"Authorization": "Bearer good"}
HOOK = {"Authorization": "Bearer hook"}
REPORT = {
    "trainerStatus": {
        "progressPercentage": 40,
        "estimatedRemainingSeconds": 12,
        "metrics": [
            {"name": "loss", "value": "2.5"},
            {"name": "grad_norm", "value": "nan"},
            {"name": "current_step", "value": "8"},
            {"name": "total_steps", "value": "20"},
        ],
    }
}


def review(**user):
    extra = {
        "authentication.kubernetes.io/pod-name": ["sft-0-0-abc"],
        "authentication.kubernetes.io/pod-uid": ["pod-uid"],
    }
    return {
        "status": {
            "authenticated": True,
            "audiences": ["policyops.dev"],
            "user": {"username": "system:serviceaccount:ml:default", "extra": extra, **user},
        }
    }


@dataclass
class Reviews:
    """Answers TokenReviews as an API server does: the token `good` is the pod's."""

    asked: list[str] = field(default_factory=list)
    broken: bool = False

    async def create(self, manifest):
        assert manifest["spec"]["audiences"] == ["policyops.dev"]
        self.asked.append(manifest["spec"]["token"])
        if self.broken:
            raise ApiError(500, "InternalError", "etcd is away", "POST")
        return review() if self.asked[-1] == "good" else {"status": {"authenticated": False}}


class Alerts:
    """Stands where the deployments' webhook is."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.error: Exception | None = None

    async def handle(self, body, _ctx, _now):
        if self.error is not None:
            raise self.error
        self.bodies.append(body)


@dataclass
class Rig:
    """The server over real HTTP, and what it stands on."""

    client: TestClient
    cache: Cache
    ctx: Context
    queue: Queue
    reviews: Reviews
    alerts: Alerts
    leading: list[bool]

    async def post(self, path, **kwargs):
        response = await self.client.post(path, **kwargs)
        return response.status, (await response.json())


def owned_by(kind: str, name: str, uid: str, api_version: str) -> dict:
    owner = {"kind": kind, "name": name, "uid": uid, "apiVersion": api_version}
    return {"ownerReferences": [{**owner, "controller": True}]}


def put_pod(cache: Cache, uid: str = "pod-uid", version: int = 1, job: str = "job-uid") -> None:
    """A pod whose labels say nothing; `job` is the uid of the Job that owns it."""
    cache.put(
        "Pod",
        {
            "metadata": {
                "namespace": "ml",
                "name": "sft-0-0-abc",
                "uid": uid,
                "resourceVersion": str(version),
                "labels": {"policyops.dev/training": "sft"},
                **(owned_by("Job", "sft-0", job, "batch/v1") if job else {}),
            }
        },
    )


def put_job(cache: Cache, version: int = 1, training: str = "t-uid") -> None:
    """The attempt's Job; `training` is the uid of the training that owns it."""
    cache.put(
        "Job",
        {
            "metadata": {
                "namespace": "ml",
                "name": "sft-0",
                "uid": "job-uid",
                "resourceVersion": str(version),
                **owned_by("PolicyTraining", "sft", training, "policyops.dev/v1alpha1"),
            }
        },
    )


def put_training(cache: Cache, version: int = 1, **status) -> None:
    cache.put(
        "PolicyTraining",
        {
            "metadata": {
                "namespace": "ml",
                "name": "sft",
                "uid": "t-uid",
                "resourceVersion": str(version),
            },
            "status": status,
        },
    )


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    cache, queue, reviews, alerts = Cache(), Queue(), Reviews(), Alerts()
    leading = [True]
    async with ClientSession() as http:
        ctx = Context(
            kube=reviews,
            cache=cache,
            queue=queue,
            events=EventRecorder(reviews, "test", queue.uncrowded),
            settings=Settings(),
            http=http,
            progress=ProgressStore(),
            monitor=Monitor(http, None, cache, queue),
            numbers=Numbers(cache),
            authority=Authority("system", ("localhost",)),
            complaints=Complaints(reviews),
        )
        server = PublicServer(
            ctx,
            Trainers(reviews, cache, "policyops.dev"),
            webhook_token=lambda: "hook",
            leading=lambda: leading[0],
            alerts=alerts.handle,
        )
        put_pod(cache)
        put_job(cache)
        put_training(cache)
        async with TestClient(TestServer(server.app())) as client:
            yield Rig(client, cache, ctx, queue, reviews, alerts, leading)


async def test_a_report_of_the_trainings_pod_is_kept_and_wakes_it(rig):
    status, body = await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert (status, body) == (200, {})
    kept = rig.ctx.progress.get("ml", "sft", "t-uid")
    assert (kept.percent, kept.step, kept.max_steps, kept.remaining_seconds) == (40, 8, 20, 12)
    assert [(m.name, m.value, m.step) for m in kept.metrics] == [("loss", 2.5, 8)]
    assert len(rig.queue) == 1


async def test_a_report_soon_after_the_last_write_wakes_nobody_yet(rig):
    written = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    put_training(rig.cache, version=2, progress={"updatedAt": written})
    status, _ = await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert status == 200
    assert len(rig.queue) == 0
    old = (datetime.now(UTC) - timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    put_training(rig.cache, version=3, progress={"updatedAt": old})
    await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert len(rig.queue) == 1


async def test_a_token_is_reviewed_once_a_minute(rig):
    for _ in range(3):
        await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert rig.reviews.asked == ["good"]


@pytest.mark.parametrize(
    ("headers", "status", "sentence"),
    [
        ({}, 401, "send the pod's token"),
        ({"Authorization": "Basic good"}, 401, "send the pod's token"),
        ({"Authorization": "Bearer "}, 401, "send the pod's token"),
        ({"Authorization": "Bearer bad"}, 401, "not a pod's token for audience policyops.dev"),
    ],
)
async def test_nobody_reports_without_a_pods_token(rig, headers, status, sentence):
    got, body = await rig.post(STATUS, json=REPORT, headers=headers)
    assert got == status
    assert sentence in body["error"]
    assert rig.ctx.progress.get("ml", "sft", "t-uid") is None


@pytest.mark.parametrize(
    "difference",
    [{"uid": "an older pod"}, {"job": ""}, {"job": "another Job"}],
    ids=["another pod", "labels alone", "another Job"],
)
async def test_a_pod_reports_for_its_own_training_only(rig, difference):
    put_pod(rig.cache, version=2, **difference)
    got, body = await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert got == 403
    assert body["error"] == "pod ml/sft-0-0-abc is not of PolicyTraining ml/sft"


async def test_a_pod_of_a_training_that_had_the_same_name_reports_nothing(rig):
    put_job(rig.cache, version=2, training="an older training")
    assert (await rig.post(STATUS, json=REPORT, headers=GOOD))[0] == 403
    assert rig.ctx.progress.get("ml", "sft", "t-uid") is None


async def test_a_pod_reports_in_its_own_namespace_only(rig):
    path = STATUS.replace("/ml/", "/elsewhere/")
    got, _ = await rig.post(path, json=REPORT, headers=GOOD)
    assert got == 403


async def test_a_body_over_64_kib_is_refused_also_when_its_length_is_not_told(rig):
    async def chunks():
        for _ in range(70):
            yield b"x" * 1024

    for data in (b"x" * (MAX_PROGRESS_BYTES + 1), chunks()):
        got, body = await rig.post(STATUS, data=data, headers=GOOD)
        assert got == 413
        assert body["error"] == "the body is larger than 65536 bytes"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "body"),
        (b"{}", "trainerStatus"),
        (b'{"trainerStatus": {"progressPercentage": 140}}', "progressPercentage"),
        (b'{"trainerStatus": {"metrics": [{"name": "loss", "value": "x"}]}}', "metrics"),
    ],
)
async def test_a_body_that_is_no_report_is_refused_with_the_field(rig, body, sentence):
    got, answer = await rig.post(STATUS, data=body, headers=GOOD)
    assert got == 400
    assert sentence in answer["error"]


async def test_a_training_that_is_gone_takes_no_report(rig):
    rig.cache.remove("PolicyTraining", rig.cache.get("PolicyTraining", "ml", "sft"))
    got, body = await rig.post(STATUS, json=REPORT, headers=GOOD)
    assert (got, body["error"]) == (404, "no PolicyTraining ml/sft")


async def test_a_standby_takes_nothing(rig):
    rig.leading[0] = False
    assert (await rig.post(STATUS, json=REPORT, headers=GOOD))[0] == 503
    assert (await rig.post("/v1/alerts", data=b"{}", headers=HOOK))[0] == 503
    assert rig.alerts.bodies == []


async def test_an_api_server_that_is_away_is_not_the_trainers_fault(rig):
    rig.reviews.broken = True
    assert (await rig.post(STATUS, json=REPORT, headers=GOOD))[0] == 503


async def test_too_many_bad_tokens_are_told_to_wait(rig):
    for number in range(50):
        bad = {"Authorization": f"Bearer bad-{number}"}
        assert (await rig.post(STATUS, json=REPORT, headers=bad))[0] == 401
    answer = await rig.client.post(STATUS, headers={"Authorization": "Bearer one more"})
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert "too many tokens are no good" in (await answer.json())["error"]


async def test_alerts_need_the_token_and_reach_the_deployments(rig):
    assert (await rig.post("/v1/alerts", data=b"{}"))[0] == 401
    wrong = {"Authorization": "Bearer hooks"}
    assert (await rig.post("/v1/alerts", data=b"{}", headers=wrong))[0] == 401
    assert rig.alerts.bodies == []
    assert (await rig.post("/v1/alerts", data=b'{"version": "4"}', headers=HOOK))[0] == 200
    assert rig.alerts.bodies == [b'{"version": "4"}']


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("version 3 is not understood"), 400),
        (ApiError(500, "InternalError", "etcd is away", "PATCH"), 503),
        (TimeoutError(), 503),
        (ConnectionResetError(), 503),
    ],
)
async def test_alerts_that_were_not_acted_on_are_asked_for_again(rig, error, status):
    rig.alerts.error = error
    assert (await rig.post("/v1/alerts", data=b"{}", headers=HOOK))[0] == status


async def test_a_huge_notification_is_refused(rig):
    body = io.BytesIO(b" " * (MAX_ALERT_BYTES + 1))
    assert (await rig.post("/v1/alerts", data=body, headers=HOOK))[0] == 413


@pytest.mark.parametrize(
    "change",
    [
        {"authenticated": False},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"audiences": None},
        {"user": {"username": "alice", "extra": {}}},
        {"user": {"username": "system:serviceaccount:ml:default", "extra": {}}},
        {"user": None},
    ],
)
def test_only_a_pods_token_for_our_audience_names_a_pod(change):
    answer = review()
    assert pod_identity(answer, "policyops.dev") == PodIdentity("ml", "sft-0-0-abc", "pod-uid")
    answer["status"] |= change
    assert pod_identity(answer, "policyops.dev") is None


def test_an_empty_token_matches_nothing():
    assert same_token("a", "a")
    assert not same_token("a", "b")
    assert not same_token("", "")


async def test_probes_tell_what_is_wrong():
    clock = [0.0]
    health = Health(lambda: clock[0])
    async with TestClient(TestServer(private_app(health))) as client:
        assert (await client.get("/readyz")).status == 503
        health.synced = True
        assert (await client.get("/readyz")).status == 503
        health.waits_for = ""
        assert await (await client.get("/readyz")).json() == {}
        health.deny("Pod", "pods is forbidden")
        answer = await client.get("/readyz")
        assert answer.status == 200
        assert await answer.json() == {"cannotRead": {"Pod": "pods is forbidden"}}
        for _ in range(40):  # the Lease is read, and no watch says anything
            clock[0] += 2
            health.contact()
        response = await client.get("/healthz")
        assert response.status == 503
        assert "no watch has delivered an event for 80 s" in (await response.json())["error"]
        health.event()
        assert (await client.get("/healthz")).status == 200
        metrics = await (await client.get("/metrics")).text()
        for name in ("queue_depth", "last_event_age_seconds", "leader"):
            assert f"policyops_{name} " in metrics


async def test_an_api_server_that_is_away_for_an_hour_is_no_reason_to_restart():
    clock = [0.0]
    health = Health(lambda: clock[0])
    clock[0] += 3600
    health.contact()
    assert health.problem() is None


def test_the_key_reads_as_people_say_it():
    assert str(Key("PolicyTraining", "ml", "sft")) == "ml/sft PolicyTraining"
