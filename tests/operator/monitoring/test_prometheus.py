"""Rules and alerts through a real Prometheus: the sidecar loads, the monitor asks."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import binaries
import pytest
import yaml
from policy_operator.machinery.queue import Queue, utcnow
from policy_operator.monitoring.prometheus import (
    PATIENCE_SECONDS,
    Monitor,
    parse_alerts,
    parse_rules,
)
from policy_operator.rollout import rules
from policy_rules_sync.sync import Folder, Sync, files, reloader
from rollout_world import KEY, NAME, NS, World

# PromQL that fires at once and names version 2.
FIRES = 'label_replace(vector(0.42), "version", "2", "", "") > 0.05'


def program() -> Path | None:
    """Return Prometheus: the one built for the local cluster, or the one on PATH."""
    built = binaries.path("prometheus")
    found = shutil.which("prometheus")
    return built if built.exists() else Path(found) if found else None


@dataclass
class Server:
    """A Prometheus that evaluates every 200 ms."""

    url: str
    rules: Path
    process: asyncio.subprocess.Process


async def until(what: str, holds: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = holds()
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def server(tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Server]:
    found = program()
    if found is None:
        pytest.skip("no prometheus: `make tools` builds it")
    folder = tmp_path / "rules"
    folder.mkdir()
    config = {
        "global": {"evaluation_interval": "200ms"},
        "rule_files": [f"{folder}/*.yaml"],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            str(found),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-lifecycle",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    made = Server(f"http://127.0.0.1:{port}", folder, process)

    async def ready() -> bool:
        try:
            async with http.get(f"{made.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    try:
        await until("Prometheus is ready", ready, 60)
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def config_map(world: World) -> dict[str, Any]:
    return rules.build(world.pdep, "ConfigMap")


def watched(**alert: Any) -> World:
    """Return a world with one alert, and a status that Prometheus has nothing to say about."""
    world = World()
    world.edit(alerts=[{"name": "HighErrorRate", "expr": FIRES, **alert}])
    return world


async def test_rules_are_loaded_seen_and_fire(server: Server, http: aiohttp.ClientSession):
    world, queue = watched(), Queue()
    monitor = Monitor(http, server.url, world.cache, queue)
    sync = Sync(Folder(server.rules), reloader(http, f"{server.url}/-/reload"))
    _, checksum = rules.group(world.pdep)

    await monitor.poll()
    assert monitor.about(NS, NAME, utcnow()).available
    assert monitor.about(NS, NAME, utcnow()).rules is None
    assert len(queue) == 1, "Prometheus answers now: that is news"

    await sync.to(files([config_map(world)]))

    async def seen() -> bool:
        await monitor.poll()
        found = monitor.about(NS, NAME, utcnow())
        return found.rules == checksum and bool(found.signals)

    await until("the rules are loaded and evaluated", seen)
    (signal,) = monitor.about(NS, NAME, utcnow()).signals
    assert (signal.name, signal.version, signal.firing) == ("HighErrorRate", 2, True)
    assert signal.message == "the expression's value is 0.42"
    assert utcnow() - signal.since < timedelta(minutes=1)

    await sync.to({})

    async def gone() -> bool:
        await monitor.poll()
        return monitor.about(NS, NAME, utcnow()).rules is None

    await until("the rules are gone", gone)


async def test_an_alert_that_is_still_pending_does_not_fire(
    server: Server, http: aiohttp.ClientSession
):
    world = watched(forSeconds=600)
    monitor = Monitor(http, server.url, world.cache, Queue())
    sync = Sync(Folder(server.rules), reloader(http, f"{server.url}/-/reload"))
    await sync.to(files([config_map(world)]))

    async def pending() -> bool:
        await monitor.poll()
        async with http.get(f"{server.url}/api/v1/alerts") as response:
            alerts = (await response.json())["data"]["alerts"]
        loaded = monitor.about(NS, NAME, utcnow()).rules is not None
        return loaded and [a["state"] for a in alerts] == ["pending"]

    await until("the rules are evaluated and the alert is pending", pending)
    assert monitor.about(NS, NAME, utcnow()).signals == ()


async def test_a_rule_that_fails_is_not_loaded_for_us(server: Server, http: aiohttp.ClientSession):
    # Valid PromQL that fails when it is evaluated: two series for one side of a match.
    two = 'label_replace(vector(1), "a", "1", "", "") or label_replace(vector(1), "a", "2", "", "")'
    world = watched(expr=f"vector(1) * on () ({two})")
    monitor = Monitor(http, server.url, world.cache, Queue())
    sync = Sync(Folder(server.rules), reloader(http, f"{server.url}/-/reload"))
    await sync.to(files([config_map(world)]))

    async def failing() -> bool:
        await monitor.poll()
        return "many-to-many" in monitor.about(NS, NAME, utcnow()).rules_error

    await until("the error is told", failing)
    assert monitor.about(NS, NAME, utcnow()).rules is None


async def test_one_bad_file_does_not_stop_the_others(server: Server, http: aiohttp.ClientSession):
    good, folder = config_map(watched()), Folder(server.rules)
    sync = Sync(folder, reloader(http, f"{server.url}/-/reload"))
    broken = watched(expr="sum by (")
    bad = config_map(broken)
    bad["metadata"] = {**bad["metadata"], "name": "a-broken-one"}

    async def loaded() -> int:
        async with http.get(f"{server.url}/api/v1/rules") as response:
            return len((await response.json())["data"]["groups"])

    await sync.to(files([bad, good]))
    assert set(folder.read()) == set(files([good]))
    assert await loaded() == 1
    repaired = config_map(watched(expr="vector(1) > 2"))
    repaired["metadata"] = {**repaired["metadata"], "name": "a-broken-one"}
    await sync.to(files([repaired, good]))
    assert len(folder.read()) == 2
    await sync.to(files([bad, good]))
    assert set(folder.read()) == set(files([good])), "also when it was good before"
    assert await loaded() == 1


async def test_a_prometheus_that_is_gone_is_missed_after_a_while(
    server: Server, http: aiohttp.ClientSession
):
    world, clock = World(), [utcnow()]
    queue = Queue()
    monitor = Monitor(http, server.url, world.cache, queue, now=lambda: clock[0])
    assert monitor.about(NS, NAME, clock[0]).reason == "PrometheusUnreachable"
    await monitor.poll()
    assert monitor.about(NS, NAME, clock[0]).available
    server.process.kill()
    await server.process.wait()
    clock[0] += timedelta(seconds=PATIENCE_SECONDS - 1)
    await monitor.poll()
    assert monitor.about(NS, NAME, clock[0]).available, "one lost answer is no loss"
    clock[0] += timedelta(seconds=2)
    await monitor.poll()
    found = monitor.about(NS, NAME, clock[0])
    assert (found.available, found.reason) == (False, "PrometheusUnreachable")
    assert "Cannot connect" in found.message


async def test_without_an_address_nobody_is_asked(http: aiohttp.ClientSession):
    monitor = Monitor(http, None, World().cache, Queue())
    await monitor.run()
    found = monitor.about(NS, NAME, utcnow())
    assert (found.available, found.reason) == (False, "NotConfigured")


async def test_an_alert_that_ended_unheard_wakes_its_deployment(
    server: Server, http: aiohttp.ClientSession
):
    world, queue = World(), Queue()
    firing = {
        "name": "HighErrorRate",
        "state": "Firing",
        "version": 2,
        "since": "2026-01-01T00:00:00Z",
    }
    world.change("PolicyDeployment", NAME, status={"alerts": [firing]})
    monitor = Monitor(http, server.url, world.cache, queue)
    await monitor.poll()
    woken: list[object] = []

    async def note(key: object) -> datetime | None:
        woken.append(key)
        return None

    worker = asyncio.create_task(queue.run(note, 1))
    await until("the first poll wakes it", lambda: woken == [KEY])
    await monitor.poll()
    await until("the next one again", lambda: woken == [KEY, KEY])
    worker.cancel()


def rule(**update: Any) -> dict[str, Any]:
    labels = {"policyops_namespace": NS, "policyops_deployment": NAME, "policyops_alert": "A"}
    base = {
        "type": "alerting",
        "name": "A",
        "labels": labels,
        "annotations": {"policyops_rules": "s"},
        "health": "ok",
        "duration": 30,
    }
    return {**base, **update}


@pytest.mark.parametrize(
    ("found", "checksum"),
    [
        ([rule()], "s"),
        ([rule(), rule(name="B")], "s"),
        ([rule(), rule(annotations={"policyops_rules": "t"})], None),
        ([rule(health="unknown")], None),
        ([rule(health="err", lastError="x")], None),
        ([rule(annotations={})], None),
    ],
)
def test_rules_count_when_all_are_the_new_ones_and_evaluated(
    found: list[dict[str, Any]], checksum: str | None
):
    loaded = parse_rules({"groups": [{"name": "g", "rules": [*found, {"name": "x"}]}]})
    assert list(loaded) == [(NS, NAME)]
    assert loaded[NS, NAME].checksum == checksum


def test_an_alert_fires_when_its_for_is_over():
    loaded = parse_rules({"groups": [{"name": "g", "rules": [rule()]}]})
    alert = {
        "labels": {**rule()["labels"], "alertname": "A", "version": "3"},
        "annotations": {},
        "state": "firing",
        "activeAt": "2026-01-01T00:00:00.5Z",
        "value": "1e+00",
    }
    pending = {**alert, "state": "pending"}
    others = {**alert, "labels": {"alertname": "A"}}
    found = parse_alerts({"alerts": [alert, pending, others]}, loaded)
    ((signal,),) = found.values()
    assert signal.since == datetime.fromisoformat("2026-01-01T00:00:30.5+00:00")
    assert replace(signal, since=utcnow()).version == 3


def test_file_names_are_unique_and_other_keys_are_left_out():
    def made(namespace: str, name: str, **data: str) -> dict[str, Any]:
        return {"metadata": {"namespace": namespace, "name": name}, "data": data}

    found = files(
        [
            made("a", "b", **{"x.yaml": "1", "x.txt": "2"}),
            made("a", "c", **{"x.yml": "3"}),
            {"metadata": {"namespace": "a", "name": "d"}},
        ]
    )
    assert found == {"a_b_x.yaml": "1", "a_c_x.yaml": "3"}


def test_the_folder_has_exactly_the_wanted_files(tmp_path: Path):
    folder = Folder(tmp_path)
    assert folder.write({"a.yaml": "1", "b.yaml": "2"})
    assert not folder.write({"a.yaml": "1", "b.yaml": "2"})
    assert folder.write({"b.yaml": "3"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"b.yaml": "3"}


async def test_a_prometheus_that_refuses_everything_blames_no_file(tmp_path: Path):
    answers: list[bool] = []

    async def reload() -> bool:
        return answers.pop(0) if answers else True

    sync = Sync(Folder(tmp_path), reload)
    await sync.to({"a.yaml": "1"})
    answers += [False, False, False]
    with pytest.raises(OSError, match="whatever the rules are"):
        await sync.to({"a.yaml": "1", "b.yaml": "2"})
    await sync.to({"a.yaml": "1", "b.yaml": "2"})
    assert folder_names(tmp_path) == ["a.yaml", "b.yaml"]


def folder_names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())
