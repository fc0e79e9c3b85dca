"""Start everything: caches, watches, servers, and, on the leader, the reconciling.

The process ends when any part ends. Nothing is lost by that: all state is in the API server.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, cast

import aiohttp
import kopf
from aiohttp import web
from policy_api.keys import FIELD_MANAGER, KIND_DEPLOYMENT, KIND_TRAINING

from policy_operator.access import tls
from policy_operator.access.auth import Trainers, webhook_token
from policy_operator.context import Context
from policy_operator.machinery import logs, metrics
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.complaints import Complaints
from policy_operator.machinery.events import EventRecorder
from policy_operator.machinery.health import Health
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.kube import (
    ApiError,
    Kube,
    NamespaceTerminating,
    NotFound,
    load_configuration,
)
from policy_operator.machinery.leader import Election, LeaseLostError
from policy_operator.machinery.progress import ProgressStore
from policy_operator.machinery.queue import Key, Queue, utcnow
from policy_operator.machinery.watches import WATCHED, kopf_settings, registry, watch_selector
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
_RELISTED = 2.0  # seconds from the first watch that starts over to our own lists
_LIST_AGAIN = 1.0  # seconds
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
        self._token = ""
        self._stop = asyncio.Event()
        self._synced = asyncio.Event()
        self._reconciling: asyncio.Task[None] | None = None

    async def run(self, configuration: object) -> None:
        """Run until told to stop, or until a part fails."""
        ctx, settings = self._ctx, self._settings
        await self._keep_house()
        await self._serve()
        kopf_ready = asyncio.Event()
        parts: dict[str, Coroutine[None, None, None]] = {
            "watches": kopf.operator(
                registry=registry(settings, configuration, self._intake, self._election.nudge),
                settings=kopf_settings(settings),
                standalone=True,
                clusterwide=True,
                # kopf's own guess asks for the user's name, which an image's numeric user lacks.
                identity=cast(Any, settings.pod_name),
                ready_flag=kopf_ready,
            ),
            "housekeeping": self._housekeeping(),
            "resync": self._resync_forever(),
            "events": ctx.events.run(),
            "election": self._elect(),
            "leading": self._lead(),
            "prometheus": self._monitor(),
            "stop": self._wait_for_stop(kopf_ready),
        }
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
        if self._settings.leader_elect:
            await self._election.run()
        else:
            self._election.leading.set()
            metrics.LEADER.set(1)
        await self._stop.wait()

    async def _lead(self) -> None:
        """Reconcile everything once we lead, then what changes."""
        await self._election.leading.wait()
        # What changed while the last leader still wrote is known only by a fresh list.
        await self._resync_until_done()
        self._add_all()
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

    def _add_all(self) -> None:
        for kind in (KIND_TRAINING, KIND_DEPLOYMENT):
            for obj in self._ctx.cache.list(kind):
                meta = obj["metadata"]
                self._ctx.queue.add(Key(kind, meta["namespace"], meta["name"]))

    async def _resync(self) -> None:
        """List every kind; what a broken watch missed is found here."""

        async def one(kind: str) -> None:
            cache = self._ctx.cache
            try:
                objects, version = await self._ctx.kube.list_with_version(
                    kind, selector=watch_selector(kind)
                )
            except NotFound:  # an optional API (Gateway, Prometheus operator) is not installed
                objects, version = [], 0
            before = {id(o) for o in objects}
            for obj in cache.sync(kind, objects, version):
                self._intake.changed(kind, obj, deleted=id(obj) not in before)

        await asyncio.gather(*(one(kind) for kind in WATCHED))
        self._health.synced = True
        self._synced.set()

    async def _resync_until_done(self) -> None:
        """List every kind, again and again until the API server has answered for each."""
        while True:
            try:
                await self._resync()
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("a list failed, again in %.0f s: %s", _LIST_AGAIN, error)
                await asyncio.sleep(_LIST_AGAIN)
            else:
                return

    async def _resync_forever(self) -> None:
        """List everything at intervals, and soon after a watch had to start over."""
        relisted = self._intake.relisted
        while True:
            await self._resync_until_done()
            if self._election.leading.is_set():
                self._add_all()
            try:
                await asyncio.wait_for(relisted.wait(), self._settings.resync_seconds)
            except TimeoutError:
                continue
            await asyncio.sleep(_RELISTED)  # several watches start over together
            relisted.clear()

    async def _keep_house(self) -> None:
        ctx, settings = self._ctx, self._settings
        await ctx.authority.ensure(ctx.kube, utcnow())
        self._token = await webhook_token(ctx.kube, settings.namespace)
        if self._election.leading.is_set():
            ca = ctx.authority.ca
            published = await ctx.authority.publish(ctx.kube, settings.ca_namespaces)
            if await trust.refresh(ctx, ca) and published:
                ctx.authority.told(ca)

    async def _housekeeping(self) -> None:
        """Renew certificates, publish the CA, hear of a new webhook token."""
        await self._election.leading.wait()
        while True:
            try:
                await self._keep_house()
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("certificates or token: %s", error)
            await asyncio.sleep(_HOUSEKEEPING)

    async def _serve(self) -> None:
        ctx, settings = self._ctx, self._settings
        public = PublicServer(
            ctx,
            Trainers(ctx.kube, ctx.cache, settings.audience),
            webhook_token=lambda: self._token,
            leading=self._election.leading.is_set,
            alerts=webhook.handle,
        )
        host = settings.bind or None
        for app, port, context in (
            (private_app(self._health), settings.http_port, None),
            (public.app(), settings.https_port, ctx.authority.context),
        ):
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=context).start()


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
            events=EventRecorder(kube, settings.pod_name),
            settings=settings,
            http=http,
            progress=ProgressStore(),
            monitor=Monitor(http, settings.prometheus_url, cache, queue),
            numbers=Numbers(cache),
            complaints=Complaints(kube),
            authority=tls.Authority(
                settings.namespace, tls.host_names(settings.host, settings.namespace)
            ),
        )
        log.info("%s starts as %s", FIELD_MANAGER, settings.pod_name)
        election = Election(kube, settings, health)
        await Operator(settings, ctx, health, election, intake).run(configuration)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
