"""Long-running programs: started detached, found again by a later command, stopped by pid.

A record (`<name>.json` in a folder of the caller's choice) holds the pid and the moment the kernel
started it, so that a pid that was given to somebody else since is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError, say
from locks import exclusive

GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Daemon:
    """A detached program: where its record and its log are, whoever started it."""

    name: str
    records: Path
    logs: Path

    @property
    def record(self) -> Path:
        """The file that remembers the pid."""
        return self.records / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """Its standard output and error; the run before is kept beside it as `.old`."""
        return self.logs / f"{self.name}.log"

    def pid(self) -> int | None:
        """The pid when it runs, else None."""
        try:
            record = json.loads(self.record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        pid = int(record["pid"])
        return pid if _born(pid) == record["born"] else None

    def running(self) -> bool:
        """Whether the recorded process is alive."""
        return self.pid() is not None

    def runs_as(self, command: list[str]) -> bool:
        """Whether it is alive and was started with just this command."""
        if not self.running():
            return False
        return bool(json.loads(self.record.read_text())["command"] == command)

    def start(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Start it unless it runs already with this command; a changed command restarts it."""
        with exclusive(self.records / f"{self.name}.lock"):
            if not self.runs_as(command):
                self.stop()
                self._launch(command, environment or {})

    def _launch(self, command: list[str], environment: dict[str, str]) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.old"))
        try:
            with self.log.open("w") as output:
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise ClusterError(f"{self.name} could not be started: {error}.") from error
        _CHILDREN[process.pid] = process
        record = {"pid": process.pid, "born": _born(process.pid), "command": command}
        self.record.write_text(json.dumps(record))

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Ask it to end, insist after `grace` seconds, and forget it."""
        pid = self.pid()
        if pid is not None:
            _signal(pid, signal.SIGTERM)
            if not _gone(self.running, grace):
                say("stop", f"{self.name} did not end within {grace:.0f} s: killing it")
                _signal(pid, signal.SIGKILL)
                if not _gone(self.running, GRACE_SECONDS):
                    raise ClusterError(f"{self.name} (pid {pid}) does not end.", self.log)
        self.record.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        pid = self.pid()
        if pid is not None:
            _signal(pid, signal.SIGKILL)
            if not _gone(self.running, GRACE_SECONDS):
                raise ClusterError(f"{self.name} (pid {pid}) does not end.", self.log)
        self.record.unlink(missing_ok=True)


def end_strays(folder: Path, grace: float = GRACE_SECONDS) -> list[int]:
    """End the programs that were started with a path below `folder`; return their pids.

    For those whose records are lost: somebody deleted the folder while they ran.
    """
    found = {pid: _born(pid) for pid in _naming(f"{folder}/")}
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, GRACE_SECONDS)):
        for pid in _alive(found):
            _signal(pid, number)
        if _gone(lambda: bool(_alive(found)), seconds):
            return list(found)
    raise ClusterError(f"{', '.join(map(str, _alive(found)))} (pids) do not end.")


def _alive(found: dict[int, int | None]) -> list[int]:
    return [pid for pid, born in found.items() if born is not None and _born(pid) == born]


def _naming(text: str) -> list[int]:
    """Return the processes, but this one, with `text` in their command line."""
    everything = command_lines()
    return [pid for pid, command in everything if text.encode() in command and pid != os.getpid()]


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Yield every process of this machine with its command line, whose words NUL separates."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield int(process.name), (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended


# Children of this very process have to be reaped, or they stay visible as zombies.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _born(pid: int) -> int | None:
    """The start time of a live process in clock ticks since boot; None for none or a zombie."""
    child = _CHILDREN.get(pid)
    if child is not None and child.poll() is not None:
        del _CHILDREN[pid]
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[19])


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _gone(running: Callable[[], bool], seconds: float) -> bool:
    """Wait until nothing runs; return whether that was so in time."""
    deadline = time.monotonic() + seconds
    while running():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
