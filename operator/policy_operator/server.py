"""The operator's HTTP: health and metrics in the clear, progress and alerts over TLS."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus

from aiohttp import web
from policy_api.contract.progress import parse_progress
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from policy_operator.access.auth import WEBHOOK_SECRET, Limited, PodIdentity, Trainers, same_token
from policy_operator.context import Context
from policy_operator.machinery import logs, metrics
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.health import Health
from policy_operator.machinery.progress import ReportedProgress, read
from policy_operator.machinery.queue import Key, utcnow
from policy_operator.training.status import PROGRESS_EVERY

log = logging.getLogger(__name__)

MAX_PROGRESS_BYTES = 64 * 1024
MAX_ALERT_BYTES = 4 * 1024 * 1024  # Alertmanager groups alerts; a few KiB each
_READ_SECONDS = 10.0

AlertHandler = Callable[[bytes, Context, datetime], Awaitable[None]]


def problem(status: HTTPStatus, message: str) -> web.Response:
    """Return an error as JSON; the sentence says what to change."""
    return web.json_response({"error": message}, status=status)


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def _body(request: web.Request, limit: int) -> bytes | web.Response:
    """Read the body; too large or too slow a one is answered instead."""
    too_large = f"the body is larger than {limit} bytes"
    if (request.content_length or 0) > limit:
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    except TimeoutError:
        return problem(HTTPStatus.REQUEST_TIMEOUT, f"no body within {_READ_SECONDS:.0f} s")
    return bytes(body)


class PublicServer:
    """The endpoints that trainers and Alertmanager call."""

    def __init__(
        self,
        ctx: Context,
        trainers: Trainers,
        webhook_token: Callable[[], str],
        leading: Callable[[], bool],
        alerts: AlertHandler,
    ) -> None:
        self._ctx = ctx
        self._trainers = trainers
        self._webhook_token = webhook_token
        self._leading = leading
        self._alerts = alerts

    def app(self) -> web.Application:
        """Return the application; it is served over TLS only."""
        # Our own limits answer with a sentence; aiohttp's would not.
        app = web.Application(client_max_size=MAX_ALERT_BYTES + 1)
        app.router.add_post(
            "/v1/namespaces/{namespace}/policytrainings/{name}/status", self.progress
        )
        app.router.add_post("/v1/alerts", self.alert)
        return app

    async def _trainer(self, request: web.Request) -> PodIdentity | web.Response:
        """Return the pod that calls; whoever is none is answered instead."""
        token = _bearer(request)
        if token is None:
            return problem(
                HTTPStatus.UNAUTHORIZED, "send the pod's token as `Authorization: Bearer`"
            )
        try:
            pod = await self._trainers.identify(token, request.remote or "")
        except Limited as limited:
            response = problem(HTTPStatus.TOO_MANY_REQUESTS, str(limited))
            response.headers["Retry-After"] = str(math.ceil(limited.seconds))
            return response
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("a trainer's token could not be reviewed: %s", error)
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the token could not be reviewed now")
        if pod is None:
            return problem(
                HTTPStatus.UNAUTHORIZED,
                f"not a pod's token for audience {self._ctx.settings.audience}",
            )
        return pod

    async def progress(  # noqa: PLR0911 - one return an answer
        self, request: web.Request
    ) -> web.Response:
        """Take a KEP-2779 progress report from a trainer pod."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        key = Key("PolicyTraining", namespace, name)
        if not self._leading():
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "this replica is not the leader")
        pod = await self._trainer(request)
        if isinstance(pod, web.Response):
            return pod
        body = await _body(request, MAX_PROGRESS_BYTES)
        if isinstance(body, web.Response):
            return body
        training = self._ctx.cache.get(key.kind, namespace, name)
        if training is None and pod.namespace == namespace:
            return problem(HTTPStatus.NOT_FOUND, f"no PolicyTraining {namespace}/{name}")
        if training is None or not self._trainers.trains(pod, training):
            return problem(
                HTTPStatus.FORBIDDEN,
                f"pod {pod.namespace}/{pod.name} is not of PolicyTraining {namespace}/{name}",
            )
        try:
            report = parse_progress(body)
        except ValueError as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        self._take(key, training, read(report, utcnow()))
        return web.json_response({})

    def _take(self, key: Key, training: Obj, progress: ReportedProgress) -> None:
        ctx = self._ctx
        ctx.progress.put(key.namespace, key.name, training["metadata"]["uid"], progress)
        written = ((training.get("status") or {}).get("progress") or {}).get("updatedAt")
        if written is None:
            ctx.queue.add(key)
        else:
            ctx.queue.add_at(key, datetime.fromisoformat(written) + PROGRESS_EVERY)

    async def alert(self, request: web.Request) -> web.Response:
        """Take a notification of Alertmanager; 2xx only once it is acted on."""
        response = await self._alert(request)
        metrics.ALERTS_RECEIVED.labels(str(response.status)).inc()
        return response

    async def _alert(  # noqa: PLR0911 - one return an answer
        self, request: web.Request
    ) -> web.Response:
        token, wanted = _bearer(request), self._webhook_token()
        if not wanted:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"Secret {WEBHOOK_SECRET} holds no token now: nobody can be told from a stranger",
            )
        if token is None or not same_token(token, wanted):
            return problem(
                HTTPStatus.UNAUTHORIZED, "send the token of Secret policy-operator-webhook"
            )
        if not self._leading():
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "this replica is not the leader")
        body = await _body(request, MAX_ALERT_BYTES)
        if isinstance(body, web.Response):
            return body
        try:
            with logs.about("alerts"):
                await self._alerts(body, self._ctx, utcnow())
        except ValueError as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        except (ApiError, OSError, TimeoutError) as error:
            # Alertmanager sends it again.
            log.warning("alerts could not be acted on: %s", error)
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "could not be acted on now, send again")
        return web.json_response({})


def private_app(health: Health) -> web.Application:
    """Return health and metrics."""

    async def healthz(_: web.Request) -> web.Response:
        if (wrong := health.problem()) is not None:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, wrong)
        return web.json_response({"eventAgeSeconds": round(health.event_age(), 1)})

    async def readyz(_: web.Request) -> web.Response:
        if not health.synced:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not every kind has been listed yet")
        if health.waits_for:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"waiting for {health.waits_for}")
        return web.json_response({"cannotRead": health.denied} if health.denied else {})

    async def scrape(_: web.Request) -> web.Response:
        health.event_age()
        body = generate_latest()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app
