"""`python -m policy_examples.loadgen`: a steady stream of decisions, and what became of each.

Requests start on a clock, whether or not earlier ones were answered (an open loop), so that a slow
server is not asked less. One JSON line a second, and a summary at the end or at SIGTERM. A `bad`
answer is one that broke the policy's answer schema; `failed` is everything else but a 200: a
refused connection, a timeout, an error status.
"""

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

REVIEWS = (
    "LGTM",
    "Looks good to me, ship it.",
    "This is wrong, please fix.",
    "Why did you do it this way?",
    "Please rename `data` to `pending_orders`: the reader must know what is in it.",
    "The loop reads the file once for each user. Read it once before the loop and keep a dict.",
    "Line 42: `items` can be empty here, then `items[0]` raises IndexError. Return early.",
    "Good structure. One suggestion: move the retry into the client and log each attempt.",
)
PROMPT = "Score this review: '{review}'"
BAD = "AnswerSchemaViolation"
FAILURES_SHOWN = 20


def now() -> str:
    """Return the time in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank quantile, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


@dataclass
class Tally:
    """Counts of a stretch of time."""

    sent: int = 0
    ok: int = 0
    bad: int = 0
    failed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)  # "200", "503", "ConnectError"
    versions: Counter[str] = field(default_factory=Counter)  # who answered, bad answers included
    milliseconds: list[float] = field(default_factory=list)  # of ok and bad answers

    def line(self) -> dict[str, Any]:
        """Return the tally as JSON."""
        p50, p95 = quantile(self.milliseconds, 0.5), quantile(self.milliseconds, 0.95)
        return {
            "sent": self.sent,
            "ok": self.ok,
            "bad": self.bad,
            "failed": self.failed,
            "statuses": dict(sorted(self.statuses.items())),
            "versions": dict(sorted(self.versions.items())),
            "p50Ms": None if p50 is None else round(p50, 1),
            "p95Ms": None if p95 is None else round(p95, 1),
        }


@dataclass
class BadAnswers:
    """When one version's answers broke their schema."""

    count: int
    first: str
    last: str


class Load:
    """Sends prompts and keeps the tallies."""

    def __init__(self, client: httpx.AsyncClient, prompts: Sequence[str]) -> None:
        self._client = client
        self._prompts: Iterator[str] = itertools.cycle(prompts)
        self._running: set[asyncio.Task[None]] = set()
        self._second = Tally()
        self.total = Tally()
        self.bad: dict[str, BadAnswers] = {}
        self.failures: list[dict[str, str]] = []  # the first ones

    async def wait_for_an_answer(self, seconds: float, stop: asyncio.Event) -> bool:
        """Ask until somebody answers with 200; uncounted. Return whether that happened."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < deadline:
            status, _, _ = await self._ask()
            if status == "200":
                return True
            await _until(stop, 0.2)
        return False

    async def run(self, rate: float, seconds: float | None, stop: asyncio.Event) -> None:
        """Start `rate` requests a second until the time is over or `stop` is set."""
        start = time.monotonic()
        reporter = asyncio.create_task(self._report())
        for number in itertools.count():
            due = start + number / rate
            if seconds is not None and number / rate >= seconds:
                break
            await _until(stop, due - time.monotonic())
            if stop.is_set():
                break
            task = asyncio.create_task(self._one())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if self._running:
            await asyncio.gather(*self._running)
        reporter.cancel()
        self._print_second()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._print_second()

    def _print_second(self) -> None:
        say({"time": now(), **self._second.line()})
        self._second = Tally()

    async def _ask(self) -> tuple[str, str | None, str | None]:
        """Return status, the version that answered and the error's code, where there is one."""
        try:
            response = await self._client.post(
                "/v1/decisions", json={"prompt": next(self._prompts)}
            )
        except httpx.HTTPError as error:
            return type(error).__name__, None, None
        try:
            body = response.json()
        except ValueError:  # the gateway's own words
            body = {}
        version = body.get("version")
        code = body.get("error", {}).get("code")
        return str(response.status_code), None if version is None else str(version), code

    async def _one(self) -> None:
        for tally in (self._second, self.total):
            tally.sent += 1
        started = time.perf_counter()
        status, version, code = await self._ask()
        milliseconds = (time.perf_counter() - started) * 1000
        bad = code == BAD
        ok = status == "200"
        for tally in (self._second, self.total):  # a later second than that of the request, maybe
            tally.ok += ok
            tally.bad += bad
            tally.failed += not ok and not bad
            tally.statuses[status] += 1
            if version is not None:
                tally.versions[version] += 1
            if ok or bad:
                tally.milliseconds.append(milliseconds)
        if bad:
            found = self.bad.setdefault(str(version), BadAnswers(0, now(), ""))
            found.count += 1
            found.last = now()
        elif not ok and len(self.failures) < FAILURES_SHOWN:
            self.failures.append({"time": now(), "status": status, "code": code or ""})

    def summary(self) -> dict[str, Any]:
        """Return the whole run as JSON."""
        return {
            "time": now(),
            "summary": True,
            **self.total.line(),
            "badByVersion": {
                version: {"count": bad.count, "first": bad.first, "last": bad.last}
                for version, bad in sorted(self.bad.items())
            },
            "firstFailures": self.failures,
        }


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or less when stopped."""
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return


def say(line: dict[str, Any]) -> None:
    """Print one JSON line at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def prompts_from(path: Path | None) -> list[str]:
    """Return a file's prompts, one JSON object with `prompt` a line, or the built-in reviews."""
    if path is None:
        return [PROMPT.format(review=review) for review in REVIEWS]
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines if line.strip()]


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser("python -m policy_examples.loadgen", description=__doc__)
    result.add_argument("--url", default="http://127.0.0.1:8080", help="scheme, host and port")
    result.add_argument("--host", help="Host header: the route's hostname")
    result.add_argument("--rate", type=float, default=20, help="requests a second")
    result.add_argument("--duration", type=float, help="seconds; unset: until SIGTERM")
    result.add_argument("--wait", type=float, default=0, help="seconds to wait for a first answer")
    result.add_argument("--timeout", type=float, default=10, help="seconds a request may take")
    result.add_argument("--prompts", type=Path, help="JSON Lines file with prompt in each line")
    return result


async def main(arguments: Sequence[str]) -> int:
    """Run; exit code 0 when no request failed, 1 otherwise."""
    options = parser().parse_args(arguments)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with httpx.AsyncClient(
        base_url=options.url,
        headers={"Host": options.host} if options.host else None,
        timeout=options.timeout,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        trust_env=False,  # a proxy would be measured instead
    ) as client:
        load = Load(client, prompts_from(options.prompts))
        if options.wait:
            say({"time": now(), "message": "waiting for a first answer"})
        if options.wait and not await load.wait_for_an_answer(options.wait, stop):
            say({"time": now(), "message": f"nobody answered within {options.wait:g} s"})
            return 1
        await load.run(options.rate, options.duration, stop)
    say(load.summary())
    return 1 if load.total.failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
