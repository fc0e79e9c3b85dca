"""Start everything: caches, watches, servers, and, on the leader, the reconciling.

The process ends when any part ends. Nothing is lost by that: all state is in the API server.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Coroutine
from datetime import datetime
from functools import partial
from typing import Any, cast

import aiohttp
import kopf
from aiohttp import web
from policy_api import reasons
from policy_api.keys import FIELD_MANAGER, KIND_TRAINING

from policy_operator.access import tls
from policy_operator.access.auth import SecretError, Trainers, webhook_token
from policy_operator.context import Context
from policy_operator.machinery import logs, metrics
from policy_operator.machinery.cache import Cache, object_id
from policy_operator.machinery.chores import Chore
from policy_operator.machinery.complaints import Complaints
from policy_operator.machinery.errors import ApiError, NamespaceTerminating
from policy_operator.machinery.events import Event, EventRecorder
from policy_operator.machinery.health import Health, place
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.kube import Kube, load_configuration
from policy_operator.machinery.leader import Election, LeaseLostError
from policy_operator.machinery.lists import Lists
from policy_operator.machinery.pace import Pace, measure_stalls
from policy_operator.machinery.progress import ProgressStore
from policy_operator.machinery.queue import Key, Queue, utcnow
from policy_operator.machinery.watches import BY_KOPF, kopf_settings, registry, scopes, watches
from policy_operator.monitoring.prometheus import Monitor
from policy_operator.registry.numbers import Numbers
from policy_operator.rollout import webhook
from policy_operator.rollout.reconcile import reconcile as reconcile_deployment
from policy_operator.server import PublicServer, private_app
from policy_operator.settings import Settings, from_env
from policy_operator.training import trust
from policy_operator.training.reconcile import reconcile as reconcile_training

log = logging.getLogger(__name__)

_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10)
_STOP_SECONDS = 5.0  # for reconciles under way when we are told to stop; a killed one is no harm
_RELISTED = 2.0  # seconds from kopf's first watch that starts over to our own lists
_CERTIFICATE_AGAIN = 1.0  # seconds between tries to get the certificate that we start with
_TROUBLED = 5.0  # seconds between looks while something is wrong
_HOUSEKEEPING = 60.0  # seconds between looks at certificates, the CA's copies and the token


class Operator:
    """The parts and how they run together."""

    def __init__(
        self,
        settings: Settings,
        ctx: Context,
        health: Health,
        election: Election,
        intake: Intake,
    ) -> None:
        self._settings = settings
        self._ctx = ctx
        self._health = health
        self._election = election
        ctx.kube.may_write = election.may_write
        self._intake = intake
        self._lists = Lists(ctx.kube, ctx.cache, intake, health, scopes(settings))
        self._watches = watches(settings, ctx.kube, self._lists, intake, election.nudge)
        self._token = ""
        self._told = ""  # by an Event, of the token
        self._certificate = Chore("certificate", self._ensure_certificate)
        self._webhook_token = Chore("webhook token", self._read_token, self._tell_of_secret)
        self._publish = [
            Chore(f"CA in namespace {name}", partial(self._publish_ca, name))
            for name in settings.ca_namespaces
        ]
        self._trust = Chore("CA in running attempts", self._refresh_trust)
        self._stop = asyncio.Event()
        self._synced = asyncio.Event()
        self._served = asyncio.Event()
        self._reconciling: asyncio.Task[None] | None = None

    async def run(self, configuration: object) -> None:
        """Run until told to stop, or until a part fails."""
        ctx, settings = self._ctx, self._settings
        ctx.kube.outage.over = ctx.queue.retry_failed
        await _listen(private_app(self._health), settings, settings.http_port)
        kopf_ready = asyncio.Event()
        parts: dict[str, Coroutine[None, None, None]] = {
            "kopf": kopf.operator(
                registry=registry(configuration, self._intake),
                settings=kopf_settings(settings),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=list(settings.namespaces),
                # kopf's own guess asks for the user's name, which an image's numeric user lacks.
                identity=cast(Any, settings.pod_name),
                ready_flag=kopf_ready,
            ),
            "stalls": measure_stalls(),
            "https": self._serve(),
            "housekeeping": self._housekeeping(),
            "resync": self._resync_forever(),
            "events": ctx.events.run(),
            "election": self._elect(),
            "leading": self._lead(),
            "prometheus": self._monitor(),
            "stop": self._wait_for_stop(kopf_ready),
        }
        for watch in self._watches:
            parts[f"watch of {place(watch.kind, watch.namespace)}"] = watch.run()
        tasks = {asyncio.create_task(part, name=name) for name, part in parts.items()}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.exception()) is not None:
                expected = isinstance(error, LeaseLostError)
                log.critical(
                    "%s failed: %s", task.get_name(), error, exc_info=None if expected else error
                )
                _exit(1)
            log.info("%s ended", task.get_name())
        await self._shut_down()
        _exit(0)

    async def _wait_for_stop(self, kopf_ready: asyncio.Event) -> None:
        # kopf has put its own signal handlers in place by the time it is ready.
        await kopf_ready.wait()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._stop.wait()

    async def _shut_down(self) -> None:
        """Finish reconciles under way, then give the Lease away."""
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.wait({self._reconciling}, timeout=_STOP_SECONDS)
        with contextlib.suppress(ApiError, OSError, TimeoutError):  # it then expires by itself
            await asyncio.wait_for(self._election.release(), _STOP_SECONDS)

    async def _elect(self) -> None:
        await self._synced.wait()
        await self._served.wait()  # a leader must hear of alerts, and a Job's pods know our CA
        if self._settings.leader_elect:
            await self._election.run()
        else:
            self._election.leading.set()
            metrics.LEADER.set(1)
        await self._stop.wait()

    async def _lead(self) -> None:
        """Reconcile everything once we lead, then what changes."""
        await self._election.leading.wait()
        if self._settings.leader_elect:
            # What changed while the last leader still wrote is known only by a fresh list.
            await self._lists.read_all()
        await self._add_all()
        queue = self._ctx.queue
        self._reconciling = asyncio.create_task(
            queue.run(self._reconcile, self._settings.workers), name="reconcile"
        )
        await self._reconciling

    async def _monitor(self) -> None:
        """Ask Prometheus while we lead; without its URL there is nobody to ask."""
        await self._election.leading.wait()
        await self._ctx.monitor.run()
        await self._stop.wait()

    async def _reconcile(self, key: Key) -> datetime | None:
        try:
            if key.kind == KIND_TRAINING:
                return await reconcile_training(key, self._ctx, utcnow())
            return await reconcile_deployment(key, self._ctx, utcnow())
        except NamespaceTerminating:
            log.info("left alone: its namespace is being deleted")
            return None

    async def _add_all(self) -> None:
        pace = Pace()
        for kind in BY_KOPF:
            for obj in self._ctx.cache.list(kind):
                self._ctx.queue.add(Key(kind, *object_id(obj)))
                await pace.rest()

    async def _resync_forever(self) -> None:
        """List everything at intervals, and what kopf watches soon after it had to start over."""
        await self._lists.read_all(*BY_KOPF)
        for watch in self._watches:
            await watch.begun.wait()
        self._health.synced = True
        self._synced.set()
        relisted = self._intake.relisted
        while True:
            try:
                await asyncio.wait_for(relisted.wait(), self._settings.resync_seconds)
            except TimeoutError:
                await self._lists.read_all()
                if self._election.leading.is_set():
                    await self._add_all()
            else:
                await asyncio.sleep(_RELISTED)  # both watches start over together
                relisted.clear()
                await self._lists.read_all(*BY_KOPF)

    async def _ensure_certificate(self) -> None:
        await self._ctx.authority.ensure(self._ctx.kube, utcnow())

    async def _publish_ca(self, namespace: str) -> None:
        await self._ctx.authority.publish(self._ctx.kube, namespace)

    async def _refresh_trust(self) -> None:
        """Bring the CA into running attempts; once all clients have it, it may sign."""
        ctx = self._ctx
        ca = ctx.authority.ca
        if await trust.refresh(ctx, ca) and all(chore.done for chore in self._publish):
            ctx.authority.told(ca)

    async def _read_token(self) -> None:
        try:
            self._token = await webhook_token(self._ctx.kube, self._settings.namespace)
        except SecretError:
            self._token = ""
            raise

    def _tell_of_secret(self, error: Exception) -> None:
        if isinstance(error, SecretError) and self._election.leading.is_set():
            if str(error) != self._told:
                event = Event("Warning", reasons.WEBHOOK_TOKEN_MISSING, str(error))
                self._ctx.events.emit(error.secret, event)
            self._told = str(error)

    async def _housekeeping(self) -> None:
        """Renew the certificate, publish the CA, hear of a new webhook token, every minute."""
        await self._served.wait()
        while True:
            leading = self._election.leading.is_set()
            chores: tuple[Chore, ...] = (self._certificate, self._webhook_token)
            if leading:
                chores = (*chores, *self._publish, self._trust)
            for chore in chores:
                await chore.do()
            self._ctx.monitor.webhook_trouble = self._webhook_token.trouble
            pause = _TROUBLED if any(chore.trouble for chore in chores) else _HOUSEKEEPING
            try:
                await asyncio.wait_for(self._election.leading.wait(), pause)
            except TimeoutError:
                continue
            if leading:
                await asyncio.sleep(pause)

    async def _serve(self) -> None:
        """Serve over TLS once we have a certificate; the API server may be away until then."""
        ctx, settings = self._ctx, self._settings
        while not await self._certificate.do():
            self._health.waits_for = self._certificate.trouble or "the API server"
            await asyncio.sleep(_CERTIFICATE_AGAIN)
        await self._webhook_token.do()
        public = PublicServer(
            ctx,
            Trainers(ctx.kube, ctx.cache, settings.audience),
            webhook_token=lambda: self._token,
            leading=self._election.leading.is_set,
            alerts=webhook.handle,
        )
        await _listen(public.app(), settings, settings.https_port, ctx.authority.context)
        self._health.waits_for = ""
        self._served.set()
        await self._stop.wait()


async def _listen(
    app: web.Application, settings: Settings, port: int, tls: ssl.SSLContext | None = None
) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.bind or None, port, ssl_context=tls).start()


def _exit(code: int) -> None:
    """End the process now: after the Lease is lost, every further write could be a second one."""
    logging.shutdown()
    os._exit(code)


async def main() -> None:
    """Build the parts from the environment and run them."""
    settings = from_env()
    logs.setup(settings.log_format, settings.log_level)
    configuration = await load_configuration()
    cache, health, queue = Cache(), Health(), Queue()
    intake = Intake(cache, queue, health)
    kube = Kube(configuration, intake.answer)
    async with aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as http:
        ctx = Context(
            kube=kube,
            cache=cache,
            queue=queue,
            events=EventRecorder(kube, settings.pod_name, queue.uncrowded),
            settings=settings,
            http=http,
            progress=ProgressStore(),
            monitor=Monitor(http, settings.prometheus_url, cache, queue),
            numbers=Numbers(cache),
            complaints=Complaints(kube),
            authority=tls.Authority(
                settings.namespace, tls.host_names(settings.host, settings.namespace)
            ),
            denied=health.denied,
        )
        # What was imported lives as long as the process: looked through again and again, it made
        # each full garbage collection stop the loop for a tenth of a second.
        gc.collect()
        gc.freeze()
        log.info("%s starts as %s", FIELD_MANAGER, settings.pod_name)
        election = Election(kube, settings, health)
        await Operator(settings, ctx, health, election, intake).run(configuration)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
