"""Measure the decision log on PostgreSQL: writing, counting a day, exporting with flat memory.

    python benchmarks/log.py [--rows 1000000] [--days 30]

Each decision has a state of about 500 bytes. The floor of writing is psycopg's COPY of rows that
were made before. The database runs beside this on the same machine, as durable as in production.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
for folder in ("records", "tests"):
    sys.path.insert(0, str(REPO / folder))

import psycopg  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from policy_records import reading  # noqa: E402
from policy_records.database import connect, parse  # noqa: E402
from policy_records.entries import DecisionEntry, Owner  # noqa: E402
from policy_records.ids import uuid7  # noqa: E402
from policy_records.schema import migrate  # noqa: E402
from policy_records.writing import write  # noqa: E402
from postgres import postgres  # noqa: E402

OWNER = Owner("ml", "agents")
BATCH = 1000
VERSIONS = 4
END = datetime(2026, 11, 1, tzinfo=UTC)
STATE = {f"feature_{number:02d}": "x" * 14 for number in range(16)}  # about 500 bytes of JSON


def entries(rows: int, days: int) -> Iterator[DecisionEntry]:
    """Yield decisions, spread evenly over the days before END."""
    step = timedelta(days=days) / rows
    for number in range(rows):
        yield DecisionEntry(
            id=uuid7(),
            at=END - timedelta(days=days) + number * step,
            policy="agents",
            version=1 + number % VERSIONS,
            role="stable",
            mode="Primary",
            source="policy",
            valid=True,
            latency_ms=1.5,
            run_id=None,
            state=STATE,
            ranking=[{"action": "a", "score": 1.5}, {"action": "b", "score": 0.5}],
            action="a",
            propensity=0.95,
            confidence=0.8,
        )


def batches(rows: int, days: int) -> Iterator[list[DecisionEntry]]:
    """Yield them by thousands, made beforehand."""
    found: list[DecisionEntry] = []
    for entry in entries(rows, days):
        found.append(entry)
        if len(found) == BATCH:
            yield found
            found = []
    if found:
        yield found


def floor(url: str, rows: int) -> float:
    """Return rows a second of COPY alone, of texts of the same size into a table without index."""
    state, ranking = json.dumps(STATE), json.dumps([{"action": "a", "score": 1.5}] * 2)
    made = [(str(uuid7()), END, "agents", 1, state, ranking, 0.95, 0.8) for _ in range(BATCH)]
    spent = 0.0
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE floor (id uuid, at timestamptz, policy text, version int, state jsonb, "
            "ranking jsonb, propensity float8, confidence float8)"
        )
        for _ in range(rows // BATCH):
            began = time.perf_counter()
            with connection.cursor().copy("COPY floor FROM STDIN") as copy:
                for row in made:
                    copy.write_row(row)
            connection.commit()
            spent += time.perf_counter() - began
        connection.execute("DROP TABLE floor")
    return rows / spent


def insert(engine: sa.Engine, rows: int, days: int) -> float:
    """Return rows a second of the log's own writing, ids and batches made beforehand."""
    spent, done, told = 0.0, 0, 0
    for batch in batches(rows, days):
        began = time.perf_counter()
        write(engine, OWNER, batch)
        spent += time.perf_counter() - began
        done += len(batch)
        if done - told >= 1_000_000:
            told = done
            print(f"  {done:,} rows, {done / spent:,.0f}/s", flush=True)
    return rows / spent


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    rows: int = options.rows
    figures: dict[str, Any] = {"rows": rows}
    with postgres() as server:
        url = server.database()
        engine = connect(parse(url))
        migrate(engine)
        figures["COPY alone, rows/s"] = floor(url, min(rows, 200_000))
        figures["written, rows/s"] = insert(engine, rows, options.days)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE decisions")
            size = connection.exec_driver_sql("SELECT pg_total_relation_size('decisions')").scalar()
        figures["bytes a row, indexes included"] = (size or 0) / rows
        day = END - timedelta(days=options.days // 2)
        for name in ("first", "again"):
            began = time.perf_counter()
            counted = reading.counts(engine, OWNER, day, day + timedelta(days=1))
            figures[f"counts of a day by version, {name}, s"] = time.perf_counter() - began
        figures["decisions of that day"] = sum(counted.values())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, count = time.perf_counter(), 0
        for _ in reading.records(engine, OWNER, END - timedelta(days=3)):
            count += 1
        figures["exported"] = count
        figures["exported, rows/s"] = count / (time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures["memory at most, MiB"] = after / 1024
        figures["of it by the export, MiB"] = (after - before) / 1024
        engine.dispose()
    for name, value in figures.items():
        precise = isinstance(value, float) and value < 100
        print(f"{name}: {value:,.3g}" if precise else f"{name}: {value:,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
