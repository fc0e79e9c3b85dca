"""kubectl and the terminal, for the demo and for the end-to-end tests."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]

_START = time.monotonic()
_BOLD, _DIM, _RESET = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class DemoError(Exception):
    """Something that should have happened did not; the sentence says what was seen instead."""


def clock() -> str:
    """Minutes and seconds since the start."""
    seconds = int(time.monotonic() - _START)
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


def chapter(title: str) -> None:
    """Print a chapter's heading."""
    print(f"\n{_BOLD}[{clock()}] {title}{_RESET}", flush=True)


def say(text: str) -> None:
    """Print a line of narration."""
    print(f"[{clock()}] {text}", flush=True)


def quote(line: str) -> None:
    """Print a line that a program printed."""
    print(f"        {_DIM}{line.rstrip()}{_RESET}", flush=True)


class Kubectl:
    """kubectl for one cluster; shows a command when asked to, for a reader to copy."""

    def __init__(self, program: str, kubeconfig: str) -> None:
        """Remember which program and which cluster."""
        self.environment = {**os.environ, "KUBECONFIG": kubeconfig}
        self.program = program

    def __call__(self, *arguments: str, stdin: str | None = None, show: bool = False) -> str:
        """Run kubectl and return what it prints.

        Raises:
            DemoError: kubectl failed; the message is its own.
        """
        if show:
            say(f"$ kubectl {' '.join(arguments)}")
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        if show:
            for line in done.stdout.splitlines():
                quote(line)
        return done.stdout

    def get(self, *arguments: str) -> Object:
        """Return an object (or a list) as JSON."""
        found: Object = json.loads(self("get", *arguments, "-o", "json"))
        return found

    def watch(self, *arguments: str, timeout: float) -> Iterator[Object]:
        """Yield an object now and at each change, until the time is over (seconds)."""
        command = [
            self.program,
            "get",
            *arguments,
            "-o",
            "json",
            "--watch",
            f"--request-timeout={int(timeout)}s",
        ]
        with subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            decoder, text = json.JSONDecoder(), ""
            try:
                for line in process.stdout:
                    text += line
                    if line.rstrip() != "}":
                        continue
                    found, end = decoder.raw_decode(text)
                    text = text[end:].lstrip()
                    yield found
            finally:
                process.kill()

    def until(
        self,
        *arguments: str,
        met: Callable[[Object], bool],
        timeout: float,
        wanted: str,
        seen: Callable[[Object], None] | None = None,
    ) -> Object:
        """Watch one object until a condition is met.

        Raises:
            DemoError: the time (seconds) was over; the message has the object's last conditions.
        """
        deadline = time.monotonic() + timeout
        last: Object = {}
        while (left := deadline - time.monotonic()) > 0:
            for found in self.watch(*arguments, timeout=max(1, left)):
                last = found
                if seen:
                    seen(found)
                if met(found):
                    return found
                if time.monotonic() > deadline:
                    break
        conditions = json.dumps(last.get("status", {}).get("conditions", []), indent=1)
        raise DemoError(f"waited {timeout:.0f} s for {wanted}; last seen: {conditions}")

    @contextmanager
    def logs(self, *arguments: str) -> Iterator[list[str]]:
        """Collect what `kubectl logs …` prints while the block runs."""
        lines: list[str] = []
        process = subprocess.Popen(
            [self.program, "logs", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

        def collect() -> None:
            assert process.stdout is not None
            lines.extend(iter(process.stdout.readline, ""))

        reader = threading.Thread(target=collect, daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.kill()
            reader.join()
            process.communicate()  # closes the pipe

    @contextmanager
    def following(self, *arguments: str) -> Iterator[None]:
        """Print what `kubectl get … --watch` prints, while the block runs."""
        say(f"$ kubectl get {' '.join(arguments)} --watch")
        process = subprocess.Popen(
            [self.program, "get", *arguments, "--watch"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

        def copy() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                quote(line)

        reader = threading.Thread(target=copy, daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.kill()
            reader.join()
            process.communicate()  # closes the pipe


def condition(obj: Object, kind: str) -> Object | None:
    """Return a condition of an object, or None."""
    conditions = obj.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), None)
