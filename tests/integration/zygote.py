"""Starts operators in a tenth of a second: a process with all imports done, which forks.

Two hundred starts of the interpreter would be most of the crash tests' time. What runs after the
fork is the operator's own `main()` in a process of its own, which dies of SIGKILL like any other.

Run as a program it reads one JSON object a line ({"env": …, "log": …, "cwd": …}), forks an operator
for each, and answers with its pid.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from integration.client import until
from integration.operator_process import REPO, OperatorProcess
from typing_extensions import override

_PR_SET_PDEATHSIG = 1  # prctl(2)


def serve() -> None:
    """Fork an operator for each line."""
    from policy_operator import main  # noqa: PLC0415 - only where it is forked

    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the killed
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # see operator_process
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.chdir(order["cwd"])
            log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for stream in (1, 2):
                os.dup2(log, stream)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.environ.clear()
            os.environ.update(order["env"])
            asyncio.run(main.main())
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


class Zygote:
    """The process that forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        paths = (REPO / "api", REPO / "operator", REPO / "tests")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from integration import zygote; zygote.serve()"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, operator: OperatorProcess) -> int:
        """Start an operator, return its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"env": operator.env, "log": str(operator.log), "cwd": str(operator.folder)}
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class ForkedOperator(OperatorProcess):
    """An operator that a zygote starts."""

    def __init__(
        self, zygote: Zygote, kubeconfig: Path, namespace: str, folder: Path, env: dict[str, str]
    ) -> None:
        super().__init__(kubeconfig, namespace, folder, env)
        self._zygote = zygote
        self._pid = 0

    @property
    @override
    def pid(self) -> int:
        return self._pid

    @override
    def start(self) -> None:
        self._pid = self._zygote.fork(self)

    @override
    def running(self) -> bool:
        return self._pid > 0 and Path(f"/proc/{self._pid}").exists()

    @override
    def kill(self) -> None:
        if self._pid == 0:
            return
        with contextlib.suppress(ProcessLookupError):  # the harness was faster
            os.kill(self._pid, signal.SIGKILL)
        until(f"{self._pid} is gone", lambda: not self.running())

    @override
    def stop(self) -> None:
        self.kill()
