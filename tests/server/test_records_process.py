"""The decision log of a server process that is ended, killed, or left without its database."""

import asyncio
import json
import signal
import sys
import uuid
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from policy_api import keys
from policy_examples.loadgen import Load
from policy_records import tables
from policy_records.database import connect, parse
from postgres import Postgres
from server.artifacts import environment, write_artifact
from server.scripted import SCHEMA, lines, server, terminate, until


@pytest.fixture
def env(tmp_path: Path, pg: Postgres) -> dict[str, str]:
    sha256 = write_artifact(tmp_path / "artifact", answerSchema=SCHEMA)
    (tmp_path / "url").write_text(pg.database())
    (tmp_path / "termination-log").touch()
    return environment(
        tmp_path / "artifact",
        sha256,
        DECISION_LOG_URL_FILE=str(tmp_path / "url"),
        DECISION_LOG_SPOOL=str(tmp_path / "spool"),
        POLICY_NAMESPACE="ml",
        POLICY_DEPLOYMENT="review",
        TRUST_LOOPBACK="1",
        TERMINATION_LOG=str(tmp_path / "termination-log"),
    )


def ids(env, column):
    engine = connect(parse(Path(env["DECISION_LOG_URL_FILE"]).read_text()))
    try:
        with engine.connect() as connection:
            return [str(found) for found in connection.execute(sa.select(column)).scalars()]
    finally:
        engine.dispose()


async def test_sigterm_under_load_loses_nothing(env):
    async with server({**env, "DRAIN_SECONDS": "1"}) as (process, url, log):
        before = asyncio.Event()
        async with httpx.AsyncClient(base_url=url) as client:
            load = Load(client, ["a"])
            running = asyncio.create_task(load.run(100, None, before))
            async with asyncio.timeout(30):
                await until(lambda: load.total.ok >= 50)
                terminate(process)
                await until(lambda: bool(lines(log, "SIGTERM: draining for 1 s")))
                before.set()
                await running
                assert await process.wait() == keys.EXIT_SUCCEEDED
        assert load.total.failed == 0, load.failures
        told = [line["decisionId"] for line in lines(log, "decision")]
    assert len(told) == load.total.ok
    assert sorted(ids(env, tables.decisions.c.id)) == sorted(told)


async def acknowledge(client: httpx.AsyncClient, kept: list[str]) -> None:
    """Decide and say something of it, until the server is gone; `kept` has what was answered."""
    try:
        while True:
            made = await client.post("/v1/decisions", json={"prompt": "a"})
            decision = made.json()["decisionId"]
            said = {"decisionId": decision, "tags": ["pos"], "id": str(uuid.uuid4())}
            answer = await client.post("/v1/feedback", json=said)
            if answer.status_code == 200:
                kept.append(said["id"])
    except httpx.HTTPError:
        return


@pytest.mark.parametrize("away", [False, True])
async def test_what_was_acknowledged_outlives_a_kill(env, pg, away):
    kept: list[str] = []
    async with (
        server(env) as (process, url, _log),
        httpx.AsyncClient(base_url=url) as client,
        asyncio.timeout(60),
    ):
        talking = [asyncio.create_task(acknowledge(client, kept)) for _ in range(4)]
        await until(lambda: len(kept) >= 20)
        if away:
            await asyncio.to_thread(pg.stop, "immediate")
            count = len(kept)
            await until(lambda: len(kept) >= count + 20)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.gather(*talking)
    if away:
        await asyncio.to_thread(pg.start)
    async with server(env) as (process, _url, _log):  # the kubelet starts the container again
        async with asyncio.timeout(30):
            await until(lambda: set(kept) <= set(ids(env, tables.feedback.c.id)))
            await until(lambda: not list(Path(env["DECISION_LOG_SPOOL"]).rglob("*.jsonl")))
    assert len(ids(env, tables.decisions.c.id)) == len(set(ids(env, tables.decisions.c.id)))


async def test_it_serves_while_the_database_is_away_and_logs_no_secret(env, tmp_path):
    (tmp_path / "url").write_text("postgresql://policy:hunter2@127.0.0.1:1/none")
    async with server(env) as (process, url, log):
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/v1/decisions", json={"prompt": "a person's words"})
            made = answer.json()["decisionId"]
            assert answer.status_code == 200
            path = f"/v1/decisions/{made}"
            said = await client.post(f"{path}/outcome", json={"reward": 1})
            assert said.status_code == 200
            looked = await client.get(path)
            assert (looked.status_code, looked.json()["error"]["code"]) == (503, "LogAway")
            assert "retry-after" in looked.headers
        text = log.read_text()
        assert "it waits on this pod's disk" in text
        assert "hunter2" not in text
        assert "person's words" not in text
        assert [json.loads(line)["level"] for line in text.splitlines()].count("error") == 1
        terminate(process)


async def test_a_log_without_its_url_ends_the_program_with_one_sentence(env, tmp_path):
    (tmp_path / "url").unlink()
    async with server(env, module="policy_server", ready=False, listens=False) as (process, _, _):
        async with asyncio.timeout(30):
            assert await process.wait() == keys.EXIT_CONFIG_INVALID
    assert (tmp_path / "termination-log").read_text() == (
        f"the decision log needs {env['DECISION_LOG_URL_FILE']}: No such file or directory"
    )


async def test_without_a_log_none_of_its_libraries_is_loaded():
    code = (
        "import sys, policy_server.__main__; "
        "print([m for m in ('sqlalchemy', 'alembic', 'psycopg', 'httpx') if m in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert (await process.communicate())[0] == b"[]\n"
