"""The server as a process: its exit codes, its drain under load, and the load generator on it."""

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest
from policy_api import keys
from policy_examples.loadgen import Load
from server.artifacts import environment, write_artifact
from server.scripted import GOOD, SCHEMA, lines, server, terminate, until


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    sha256 = write_artifact(tmp_path / "artifact", answerSchema=SCHEMA)
    log = tmp_path / "termination-log"
    log.touch()  # as the kubelet does
    return environment(
        tmp_path / "artifact", sha256, TERMINATION_LOG=str(log), SCRIPTED_SECONDS="0.005"
    )


async def test_it_drains_under_load_without_a_failed_request(env):
    async with server({**env, "DRAIN_SECONDS": "1"}) as (process, url, log):
        before = asyncio.Event()  # traffic is moved away only some time after SIGTERM
        async with httpx.AsyncClient(base_url=url) as client:
            load = Load(client, ["a"])
            running = asyncio.create_task(load.run(100, None, before))
            async with asyncio.timeout(30):
                await until(lambda: load.total.ok >= 20)
                terminate(process)
                await until(lambda: bool(lines(log, "SIGTERM: draining for 1 s")))
                assert (await client.get("/readyz")).text == "draining\n"
                at_drain = load.total.ok
                await until(lambda: load.total.ok >= at_drain + 20)  # it serves on
                before.set()  # the gateway sends elsewhere from now on
                await running
                assert await process.wait() == keys.EXIT_SUCCEEDED
        assert load.total.failed == 0, load.failures
        assert load.total.sent == load.total.ok
        assert len(lines(log, "decision")) == load.total.ok


async def test_what_is_being_answered_at_the_end_of_the_drain_is_finished(env):
    slow = {**env, "DRAIN_SECONDS": "0.5", "SCRIPTED_SECONDS": "1.5"}
    async with server(slow) as (process, url, _log):
        async with httpx.AsyncClient(base_url=url) as client:
            post = asyncio.create_task(client.post("/v1/decisions", json={"prompt": "a"}))
            await asyncio.sleep(0.3)  # it is in the engine, for longer than the drain lasts
            terminate(process)
            response = await post
        assert response.json()["answer"] == GOOD
        assert response.headers["Connection"] == "close"
        async with asyncio.timeout(30):
            assert await process.wait() == keys.EXIT_SUCCEEDED


async def test_a_second_signal_ends_the_drain(env):
    async with server({**env, "DRAIN_SECONDS": "600"}) as (process, _url, log):
        terminate(process)
        await until(lambda: bool(lines(log, "SIGTERM: draining for 600 s")))
        terminate(process)
        async with asyncio.timeout(30):
            assert await process.wait() == keys.EXIT_SUCCEEDED


async def test_another_checksum_ends_the_process_with_one_sentence(env):
    wrong = {**env, "POLICY_ARTIFACT_SHA256": "b" * 64}
    async with server(wrong, ready=False) as (process, _url, log):
        async with asyncio.timeout(30):
            assert await process.wait() == keys.EXIT_DATA_INVALID
        said = Path(env["TERMINATION_LOG"]).read_text()  # noqa: ASYNC240
        assert said == (
            f"policy.json has sha256 {env['POLICY_ARTIFACT_SHA256']}, but version 3 of "
            f"review-forge was recorded with {'b' * 64}: the artifact was changed after its "
            "training"
        )
        assert len(lines(log, f"refusing to serve: {said}")) == 1
        assert "Traceback" not in log.read_text()


async def test_a_missing_variable_ends_the_program_with_one_sentence(env):
    del env["POLICY_NAME"]
    async with server(env, module="policy_server", ready=False, listens=False) as (process, _, log):
        async with asyncio.timeout(30):
            assert await process.wait() == keys.EXIT_CONFIG_INVALID
        said = Path(env["TERMINATION_LOG"]).read_text()  # noqa: ASYNC240
        assert said == "the environment variable POLICY_NAME must be set"
        assert len(lines(log, f"refusing to serve: {said}")) == 1


async def loadgen(*arguments: str) -> tuple[int, list[dict]]:
    """Run the load generator; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "policy_examples.loadgen",
        *arguments,
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, [json.loads(line) for line in output.splitlines()]


async def test_the_load_generator_counts_good_and_bad_answers(env, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "fine"}\n{"prompt": "bad"}\n')
    async with server(env) as (_process, url, log):
        code, printed = await loadgen(
            *("--url", url, "--host", "review.example.com", "--prompts", str(prompts)),
            *("--rate", "40", "--duration", "2.5", "--wait", "30"),
        )
        waiting, *seconds, summary = printed
        decisions = lines(log, "decision")
    assert code == 0  # bad answers are no failed requests
    assert summary["sent"] == 100
    assert (summary["ok"], summary["bad"], summary["failed"]) == (50, 50, 0)
    assert summary["statuses"] == {"200": 50, "500": 50}
    assert summary["versions"] == {"3": 100}
    assert sum(second["sent"] for second in seconds) == 100
    for count in ("ok", "bad"):
        assert sum(second[count] for second in seconds) == 50
    assert waiting["message"] == "waiting for a first answer"
    assert len(seconds) >= 3
    assert 0 < summary["p50Ms"] <= summary["p95Ms"]
    bad = summary["badByVersion"]["3"]
    assert bad["count"] == 50
    assert bad["first"] < bad["last"] <= summary["time"]
    # The server's own log tells the same story.
    logged = [line["time"] for line in decisions if line.get("reason") == "answer_schema"]
    assert len(logged) == 50
    assert logged[0] <= bad["first"]


async def test_the_load_generator_tells_refusals_from_bad_answers(env, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "raise"}\n{"prompt": "long"}\n')
    async with server(env) as (_process, url, _log):
        code, printed = await loadgen(
            *("--url", url, "--prompts", str(prompts), "--rate", "20", "--duration", "0.5")
        )
    summary = printed[-1]
    assert code == 1
    assert (summary["sent"], summary["bad"], summary["failed"]) == (10, 0, 10)
    assert summary["statuses"] == {"413": 5, "500": 5}
    assert {failure["code"] for failure in summary["firstFailures"]} == {
        "EngineFailed",
        "PromptTooLong",
    }


async def test_the_load_generator_counts_a_refused_connection(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    code, printed = await loadgen("--url", url, "--rate", "20", "--duration", "0.25")
    assert code == 1
    assert printed[-1]["statuses"] == {"ConnectError": 5}
    code, printed = await loadgen("--url", url, "--wait", "0.3")
    assert code == 1
    assert printed[-1]["message"] == "nobody answered within 0.3 s"
