"""A real PostgreSQL for tests: started in a folder, stopped, killed, and with a database for each.

It does not run as root, so there it is started as the user `postgres` that its package makes.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    if found:
        return found[0].parent
    installed = shutil.which("postgres")
    return None if installed is None else Path(installed).parent


class Postgres:
    """One server on a port of its own; data in a folder, so that it can be started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.folder = programs, folder
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        data = str(folder / "data")
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "-U", "policy", data)

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            [str(self._programs / program), *args],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self.folder,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Durable as in production: what is answered after a commit must survive a kill.
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = str(self.folder / "log")
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", options, "-w", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is what a crash does."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        address = f"postgresql://policy@127.0.0.1:{self.port}"
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"{address}/{name}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run one; skip the test where it is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: `make tools` installs it on Debian as root")
    # Not pytest's folder: only its owner may look into that, and the path is long for a socket.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(programs, Path(folder) / "server")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
