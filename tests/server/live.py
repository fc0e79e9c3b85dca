"""A server on a real socket in the test's own event loop, so that the test holds its engine."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from policy_api.contract.serving import ServingConfig
from policy_models.decision import Policy
from policy_models.writing import Writer
from policy_server.artifact import open_artifact
from policy_server.decisions.service import DecisionService
from policy_server.engine.asking import Asker, Inline
from policy_server.engine.batching import Batcher
from policy_server.engine.writing import Scribe
from policy_server.http.app import State, create_app
from policy_server.http.auth import EVERYBODY, Door
from policy_server.lifecycle import http_config, listen
from policy_server.metrics import Metrics
from server.artifacts import POLICY, VERSION, write_artifact
from server.scripted import until


@asynccontextmanager
async def serving(
    folder: Path, engine: Policy, schema: dict[str, Any], *, queue_limit: int = 8, **changes: Any
) -> AsyncIterator[State]:
    """Yield a server's state around a policy, asked in the way that fits it.

    Args:
        folder: For its artifact.
        engine: What is asked.
        schema: Its answer schema.
        queue_limit: How many may wait.
        changes: Of policy.json.
    """
    sha256 = write_artifact(folder, answerSchema=schema, **changes)
    artifact = open_artifact(
        str(folder), sha256=sha256, policy=POLICY, version=VERSION, download_folder=folder
    )
    metrics = Metrics(POLICY, VERSION)
    asker: Asker
    if not engine.slow:
        asker = Inline(engine)
    elif isinstance(engine, Writer):
        asker = Scribe(engine, queue_limit=queue_limit, batch_limit=4, observe=metrics.engine.batch)
    else:
        asker = Batcher(engine, queue_limit=queue_limit, batch_limit=1, wait_seconds=0)
    worker = asyncio.create_task(asker.run())
    yield State(POLICY, VERSION, metrics, DecisionService(artifact, engine, asker, metrics))
    worker.cancel()
    await asyncio.wait([worker])


@asynccontextmanager
async def listening(state: State, door: Door = EVERYBODY) -> AsyncIterator[str]:
    """Serve it on a port of its own; yield the URL."""
    config = http_config(create_app(state, door))
    config.lifespan = "off"  # nothing uses it, and it is loud when the end is forced
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", 0)
    life = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    await life


def tell(state: State, **fields: Any) -> None:
    """Put what a deployment says in force."""
    assert state.service is not None
    state.service.tell(ServingConfig(**fields))


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str | None
    data: dict[str, Any]


def events(text: str) -> list[Event]:
    """Return the events of a whole stream."""
    return [_event(block.splitlines()) for block in text.split("\n\n") if block]


def _event(lines: Iterable[str]) -> Event:
    found = dict(line.split(": ", 1) for line in lines)
    return Event(found.get("event"), json.loads(found["data"]))


async def next_event(lines: AsyncIterator[str]) -> Event:
    """Read one event of a stream that goes on."""
    block: list[str] = []
    async for line in lines:
        if not line:
            return _event(block)
        block.append(line)
    raise AssertionError(f"the stream ended after {block}")


async def ask(client: httpx.AsyncClient, prompt: str, **more: Any) -> httpx.Response:
    """Ask for a whole stream."""
    return await client.post(
        "/v1/decisions",
        json={"prompt": prompt, **more},
        headers={"Accept": "text/event-stream"},
    )


async def series(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    total = None
    for line in (await client.get("/metrics")).text.splitlines():
        key, _, value = line.rpartition(" ")
        wanted = [f'{label}="{text}"' for label, text in labels.items()]
        if key.partition("{")[0] == name and all(text in key for text in wanted):
            total = (total or 0.0) + float(value)
    assert total is not None, f"there is no {name} with {labels}"
    return total
