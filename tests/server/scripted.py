"""A policy that a test scripts, and a real server process around it."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from policy_models.decision import Decision, Option, Question, Refusal, Request, greedy
from policy_server import logs
from policy_server.lifecycle import serve
from policy_server.settings import Settings

GOOD = "Score: 70\nClarity: fine, and so is all the rest."
SCHEMA = {"patterns": [r"Score: \d+"], "minLength": 10}
ROOT = Path(__file__).parents[2]


class Scripted:
    """Obeys the prompt: `bad`, `leak`, `raise`, `long`; JSON is said again, all else is fine."""

    slow = True

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.to_state: str | None = None  # what a state is answered with, if it may be asked
        self.batches: list[int] = []
        self._never = threading.Event()
        self.busy = threading.Event()  # it has been asked
        self.hold = threading.Event()  # cleared: answers wait
        self.hold.set()

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Answer each question as its prompt says."""
        self.batches.append(len(requests))
        self.busy.set()
        self.hold.wait(30)
        self._never.wait(self._seconds)  # the model's work, in the engine's own thread
        return [self._one(request) for request in requests]

    def example(self) -> Request:
        """Return a prompt."""
        return asked("Hello")

    def inputs(self) -> dict[str, str]:
        """Return what it is asked with."""
        return {"prompt": "a text"}

    def _to_state(self) -> Decision | Refusal:
        if self.to_state is None:
            return Refusal("InvalidRequest", "this policy is asked with prompt")
        return Decision((Option(self.to_state, 0.75, 1.0, 0.75, tokens=9),))

    def _one(self, request: Request) -> Decision | Refusal:
        if (question := request.question) is None:
            return self._to_state()
        text = question.prompt or question.turns[-1].content
        if "raise" in text:
            raise RuntimeError("the weights are upside down")
        if "long" in text:
            return Refusal("PromptTooLong", "the prompt has 9 tokens, at most 8: shorten it")
        if request.candidates is not None:
            return Decision(greedy(Option(c, -i) for i, c in enumerate(request.candidates)))
        if "bad" in text:
            return Decision((Option("no score here, sorry", 0.5, 1.0, 0.5, tokens=5),))
        if "leak" in text:
            return Decision(
                (Option(f"{GOOD} The password is swordfish.", 0.9, 1.0, 0.9, tokens=9),)
            )
        answer = text if text.startswith("{") else GOOD
        return Decision((Option(answer, 0.75, 1.0, 0.75, tokens=12),))


def asked(prompt: str) -> Request:
    """Return a request with a prompt."""
    return Request(question=Question(prompt=prompt))


@asynccontextmanager
async def server(
    env: dict[str, str],
    *,
    module: str = "server.scripted",
    ready: bool = True,
    listens: bool = True,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, Path]]:
    """Run a server process; yield it, its URL once it is ready, and the file of its log."""
    log = Path(env["TERMINATION_LOG"]).with_name("server.log")
    folders = [str(ROOT / name) for name in ("api", "models", "records", "server_image", "tests")]
    path = ":".join([*filter(None, [env.get("SERVER_BLOCKED")]), *folders])
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            env={**os.environ, "PYTHONPATH": path, "PORT": "0", **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{await _port(process, log)}" if listens else ""
        if ready:
            await _ready(process, url, log)
        yield process, url, log
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lines(log: Path, message: str) -> list[dict]:
    """Return the log's lines with this message."""
    return [line for line in _lines(log) if line["message"] == message]


def _lines(log: Path) -> list[dict]:
    whole = [text for text in log.read_text().splitlines(keepends=True) if text.endswith("\n")]
    return [json.loads(text) for text in whole if text.startswith("{")]


async def _port(process: asyncio.subprocess.Process, log: Path) -> int:
    async with asyncio.timeout(60):
        while not (found := lines(log, "listening")):
            _check_alive(process, log)
            await asyncio.sleep(0.02)
    return found[0]["port"]


async def _ready(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    async with asyncio.timeout(240), httpx.AsyncClient(base_url=url) as client:
        while (await client.get("/readyz")).status_code != 200:
            _check_alive(process, log)
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    while not condition():  # noqa: ASYNC110 - what it looks at has no event
        await asyncio.sleep(0.01)


def _check_alive(process: asyncio.subprocess.Process, log: Path) -> None:
    assert process.returncode is None, log.read_text()


def terminate(process: asyncio.subprocess.Process) -> None:
    """Ask the process to stop, as the kubelet does."""
    process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    logs.setup()
    work = float(os.environ.get("SCRIPTED_SECONDS", "0"))
    sys.exit(asyncio.run(serve(Settings.from_env(os.environ), lambda _a, _s: Scripted(work))))
