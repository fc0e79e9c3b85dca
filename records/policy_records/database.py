"""Opens the database that a URL names."""

import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5
"""After which a statement has failed: what waits meanwhile waits in memory."""
BUSY_SECONDS = 5
"""How long SQLite waits for another process's write."""


class DatabaseURLInvalidError(Exception):
    """The URL names no database that a log can be kept in; the message says what to write."""


def parse(url: str) -> sa.URL:
    """Return a database's URL; a path is one of SQLite.

    Raises:
        DatabaseURLInvalidError: It names neither PostgreSQL nor SQLite. The URL is not quoted,
            since it may hold a password.
    """
    if "://" not in url:
        return sa.URL.create("sqlite", database=url)
    try:
        found = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DatabaseURLInvalidError(
            "the decision log's URL can't be read: write postgresql://user:password@host/database"
        ) from error
    match found.get_backend_name():
        case "postgresql" | "postgres":
            return found.set(drivername="postgresql+psycopg")
        case "sqlite":
            return found
        case other:
            raise DatabaseURLInvalidError(
                f"the decision log's URL starts with {other}: it must be postgresql:// or sqlite://"
            )


def connect(url: sa.URL) -> sa.Engine:
    """Return an engine of a URL from `parse`; nothing is connected yet."""
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    return sa.create_engine(
        url,
        pool_size=2,
        max_overflow=2,
        pool_timeout=STATEMENT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c timezone=UTC",
            # Of a host that vanished the kernel would wait a quarter of an hour.
            "tcp_user_timeout": 1000 * STATEMENT_SECONDS,
            "application_name": "policy-operator",
        },
    )


def _sqlite_connected(connection: sqlite3.Connection, _record: Any) -> None:
    # Transactions begin where SQLAlchemy says so, not where sqlite3 guesses.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer don't wait
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk


def _sqlite_begin(connection: sa.Connection) -> None:
    # Taking the lock at once: one that is upgraded later can't wait, it fails.
    immediate = not connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
