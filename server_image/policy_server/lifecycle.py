"""The life of the process: listen, check and load the artifact, serve, drain, exit.

It listens before the model is loaded, so that a liveness probe is answered during a long load;
`/readyz` says yes after the first answer of the warm-up.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from policy_api import keys
from policy_api.contract import environment
from policy_models.decision import Policy, Refusal
from policy_models.writing import Writer
from typing_extensions import override

from policy_server.artifact import Artifact, ArtifactRefusedError, open_artifact
from policy_server.decisions.service import DecisionService
from policy_server.decisions.serving import ServingFile
from policy_server.engine.asking import Asker, EngineFailedError, Inline
from policy_server.engine.batching import Batcher
from policy_server.engine.writing import Scribe
from policy_server.http.app import State, create_app
from policy_server.http.auth import Door
from policy_server.http.tokens import NoTokensError, Tokens
from policy_server.metrics import Metrics
from policy_server.settings import Settings, SettingsInvalidError

log = logging.getLogger(__name__)

OpenPolicy = Callable[[Artifact, Settings], Policy]

# After the drain: time for the answers that are being generated, which take a large model on a CPU
# long. With the default drain it ends before the 60 s that the operator gives a pod after SIGTERM.
FINISH_SECONDS = 50
# Envoy keeps an idle connection for an hour. Whoever closes first risks that a request is on its
# way: it must not be the server.
KEEP_ALIVE_SECONDS = 3700


class DrainingServer(uvicorn.Server):
    """Turns SIGTERM into: not ready at once, serve on for a while, then finish and exit 0."""

    def __init__(self, config: uvicorn.Config, state: State, drain_seconds: float) -> None:
        super().__init__(config)
        self._state = state
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._drain, signal.Signals(sig).name)

    def _drain(self, name: str) -> None:
        serving = self._state.ready
        self._state.draining = True
        if not serving:  # nothing was ever sent here, or a second signal says: now
            log.info("%s: stopping", name)
            self.stop()
            return
        log.info("%s: draining for %g s", name, self._drain_seconds)
        self._loop.call_later(self._drain_seconds, self.stop)

    def stop(self) -> None:
        """Stop accepting, finish what is being answered, return from `serve`."""
        self.should_exit = True


async def serve(settings: Settings, open_policy: OpenPolicy) -> int:
    """Serve until a signal; return the process's exit code.

    Raises:
        SettingsInvalidError: It can't listen there, or nobody could call it.
    """
    metrics = Metrics(settings.policy, settings.version)
    state = State(settings.policy, settings.version, metrics, hang_seconds=settings.hang_seconds)
    config = uvicorn.Config(
        create_app(state, _door(settings)),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who calls is what a token says, or the connection itself
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    server = DrainingServer(config, state, settings.drain_seconds)
    listener = _listen(settings.host, settings.port)
    log.info("listening", extra={"fields": {"port": listener.getsockname()[1]}})
    life = asyncio.create_task(_live(settings, state, open_policy))
    life.add_done_callback(lambda _: server.stop())  # it ends by itself only when it failed
    await server.serve(sockets=[listener])
    life.cancel()
    (end,) = await asyncio.gather(life, return_exceptions=True)
    match end:
        case asyncio.CancelledError():
            log.info("stopped")
            return keys.EXIT_SUCCEEDED
        case ArtifactRefusedError():
            log.error("refusing to serve: %s", end)
            last_word(settings.termination_log, str(end))
            return keys.EXIT_DATA_INVALID
        case _:
            raise RuntimeError("the engine's worker ended") from end


def _door(settings: Settings) -> Door:
    """Return who may call.

    Raises:
        SettingsInvalidError: Tokens are asked for, and there are none.
    """
    if settings.token_file is None:
        return Door(trusts_loopback=settings.trust_loopback)
    try:
        return Door(Tokens(settings.token_file))
    except NoTokensError as error:
        raise SettingsInvalidError(str(error)) from error


async def _live(settings: Settings, state: State, open_policy: OpenPolicy) -> None:
    """Check, load and warm up; then answer until cancelled.

    Raises:
        ArtifactRefusedError: It is not the recorded artifact, or the model does not load or answer.
    """
    artifact = await asyncio.to_thread(
        open_artifact,
        settings.artifact_path,
        sha256=settings.artifact_sha256,
        policy=settings.policy,
        version=settings.version,
        download_folder=settings.download_folder,
    )
    log.info("every checksum of %d files holds", len(artifact.manifest.files) + 1)
    policy = await _open(artifact, settings, open_policy)
    asker = _asker(policy, settings)
    worker = asyncio.create_task(asker.run())
    try:
        try:
            first = await asker.ask(policy.example())
        except EngineFailedError as error:
            log.exception("the model can't answer")
            raise ArtifactRefusedError(f"the model can't answer: {_one_line(error)}") from error
        if isinstance(first, Refusal):
            raise ArtifactRefusedError(f"the model can't answer: {first.message}")
        gc.collect()
        gc.freeze()  # the model's objects live as long as the process: don't visit them again
        service = DecisionService(artifact, policy, asker, state.metrics)
        told = ServingFile(settings.serving_file, service.tell, state.metrics.config_refused)
        await told.look()  # before the first decision
        state.service = service
        log.info("ready")
        async with asyncio.TaskGroup() as group:
            group.create_task(told.watch())
            await worker
    finally:
        worker.cancel()


async def _open(artifact: Artifact, settings: Settings, open_policy: OpenPolicy) -> Policy:
    """Open the artifact's policy, off the event loop: it may take minutes."""
    try:
        return await asyncio.to_thread(open_policy, artifact, settings)
    except ImportError as error:
        raise ArtifactRefusedError(
            f"a {artifact.manifest.kind} needs {error.name}, which this server's image lacks: set "
            "spec.server.image to one that has it"
        ) from error
    except Exception as error:  # libraries raise what they like on odd files
        log.exception("the model can't be loaded")
        raise ArtifactRefusedError(f"the model can't be loaded: {_one_line(error)}") from error


def _asker(policy: Policy, settings: Settings) -> Asker:
    if not policy.slow:
        return Inline(policy)
    if isinstance(policy, Writer):
        return Scribe(policy, queue_limit=settings.queue_limit, batch_limit=settings.batch_limit)
    return Batcher(
        policy,
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        wait_seconds=settings.batch_wait_seconds,
    )


def _listen(host: str, port: int) -> socket.socket:
    """Listen on an address; on none named on all, IPv6 too where there is any.

    The protocol is named since asyncio sets TCP_NODELAY only then; without it, the body of each
    answer waits 40 ms for the acknowledgement of its headers.

    Raises:
        SettingsInvalidError: There is no such address here, or its port is taken.
    """
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    else:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SettingsInvalidError(
            f"can't listen on {host or 'any address'}, port {port}: {error.strerror}"
        ) from error
    listener.listen(2048)
    return listener


def last_word(path: Path, message: str) -> None:
    """Leave the reason for the exit where Kubernetes looks; outside a pod there is no such file."""
    if path.exists():
        path.write_text(message[: environment.TERMINATION_LIMIT // 4], encoding="utf-8")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
