"""Writes a batch of entries in one transaction, each once however often it comes."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from policy_records import tables
from policy_records.entries import (
    DecisionEntry,
    Entry,
    FeedbackEntry,
    Label,
    News,
    OutcomeEntry,
    Owner,
    Written,
)
from policy_records.storable import json_text, storable

Row = dict[str, Any]

_COLUMNS = tuple(column.name for column in tables.decisions.columns)
_DOCUMENTS = frozenset(c.name for c in tables.decisions.columns if c.type is tables.JSON)
_OWN = frozenset(item.name for item in fields(Owner))
_PARTS = ("reward", "success", "followed", "next_state", "done")
SWEEP = 1000  # late ones that are counted in one transaction


def write(
    engine: sa.Engine, owner: Owner, entries: Sequence[Entry], *, counts: bool = True
) -> Written:
    """Write entries; those that are there already are left as they are.

    Args:
        engine: Of the database.
        owner: Whose log it is.
        entries: To write.
        counts: Whether who calls counts the news; else `count_late` brings that of feedback to a
            server that does.

    Raises:
        sqlalchemy.exc.DBAPIError: Nothing of the batch was written.
    """
    written = Written()
    with engine.begin() as connection:
        decisions = [entry for entry in entries if isinstance(entry, DecisionEntry)]
        if decisions:
            _insert_decisions(connection, owner, decisions)
        for entry in entries:
            match entry:
                case OutcomeEntry():
                    _merge_outcome(connection, owner, entry, written)
                case FeedbackEntry():
                    _insert_feedback(connection, owner, entry, written, counts=counts)
                case DecisionEntry():
                    pass
    return written


def count_late(engine: sa.Engine, owner: Owner) -> Written:
    """Count what came before its decision, now that the decision is there.

    Whichever pod comes first counts it; the others pass over its rows.

    Raises:
        sqlalchemy.exc.DBAPIError: The database can't be reached.
    """
    written = Written()
    with engine.begin() as connection:
        for table, key in (
            (tables.outcomes, tables.outcomes.c.decision_id),
            (tables.feedback, tables.feedback.c.id),
        ):
            late = (
                sa.select(table, *_ABOUT)
                .join(tables.decisions, tables.decisions.c.id == table.c.decision_id)
                .where(
                    ~table.c.counted,
                    *tables.owned(table, owner),
                    *tables.owned(tables.decisions, owner),
                )
                .limit(SWEEP)
                .with_for_update(of=table, skip_locked=True)
            )
            found = connection.execute(late).mappings().all()
            for row in found:
                written.news.append(_news_of(_about(row), row))
            if found:
                mark = sa.update(table).where(key.in_([row[key] for row in found]))
                connection.execute(mark.values(counted=True))
    return written


@dataclass(frozen=True)
class _About:
    """What must be known of a decision to count what came of it."""

    policy: str
    version: int
    role: str
    action: str | None


_ABOUT = tuple(
    tables.decisions.c[field.name].label(f"decision_{field.name}") for field in fields(_About)
)


def _about(row: Mapping[Any, Any]) -> _About:
    return _About(**{field.name: row[f"decision_{field.name}"] for field in fields(_About)})


def _row(owner: Owner, entry: Entry) -> Row:
    kept = {item.name: storable(getattr(entry, item.name)) for item in fields(entry)}
    return {**kept, "namespace": owner.namespace, "deployment": owner.deployment}


def _cells(owner: Owner, entry: DecisionEntry) -> tuple[Any, ...]:
    """Return a decision's row for COPY, documents as JSON's text, in the order of _COLUMNS."""
    found: list[Any] = []
    for name in _COLUMNS:
        value = getattr(owner, name) if name in _OWN else getattr(entry, name)
        if value is None:
            found.append(None)
        elif name in _DOCUMENTS:
            found.append(json_text(value))
        else:
            found.append(storable(value) if isinstance(value, str | float) else value)
    return tuple(found)


def _insert_decisions(
    connection: sa.Connection, owner: Owner, decisions: Sequence[DecisionEntry]
) -> None:
    if connection.dialect.name == "postgresql":
        _copy(connection, [_cells(owner, entry) for entry in decisions])
    else:
        rows = [_row(owner, entry) for entry in decisions]
        connection.execute(sa.insert(tables.decisions).prefix_with("OR IGNORE"), rows)


def _copy(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert by COPY, several times as fast as INSERT; what is there already is passed over.

    A COPY ends at the first row that is there. That happens only after a crash or a lost answer,
    so the rows are copied beside the table only then.
    """
    try:
        with connection.begin_nested():
            _copy_into(connection, "decisions", rows)
    except sa.exc.IntegrityError:
        connection.exec_driver_sql(
            "CREATE TEMPORARY TABLE IF NOT EXISTS arrived (LIKE decisions) ON COMMIT DELETE ROWS"
        )
        _copy_into(connection, "arrived", rows)
        connection.exec_driver_sql(
            f"INSERT INTO decisions ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)} "  # noqa: S608
            "FROM arrived ON CONFLICT DO NOTHING"
        )


def _copy_into(connection: sa.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    driver = cast("psycopg.Connection", connection.connection.dbapi_connection)
    with driver.cursor() as cursor:
        try:
            with cursor.copy(f"COPY {table} ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise sa.exc.DBAPIError.instance(
                "COPY", None, error, psycopg.Error, dialect=connection.dialect
            ) from error


def _insert_new(connection: sa.Connection, table: sa.Table, row: Row) -> bool:
    """Insert a row unless its key is there; return whether it was not."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(row).on_conflict_do_nothing()
    return connection.execute(insert.returning(*table.primary_key.columns)).first() is not None


def _merge_outcome(
    connection: sa.Connection, owner: Owner, entry: OutcomeEntry, written: Written
) -> None:
    decision = _decision(connection, entry.decision_id)
    table, row = tables.outcomes, _row(owner, entry)
    if decision is not None and not _is_mine(decision, owner):
        written.foreign.add(entry.decision_id)
        return
    empty = dict.fromkeys(_PARTS) | {"counted": False}
    # Inserted first and locked then, so that two pods agree which of them brought a part.
    _insert_new(connection, table, row | empty)
    this = table.c.decision_id == entry.decision_id
    old = connection.execute(sa.select(table).where(this).with_for_update()).mappings().one()
    if not _is_mine(old, owner):
        written.foreign.add(entry.decision_id)
        return
    changed = {name: row[name] for name in _PARTS if row[name] is not None}
    fresh = {
        name: value
        for name, value in (dict(old) | changed).items()
        if name in _PARTS and not (old["counted"] and old[name] is not None)
    }
    if decision is not None:
        written.news.append(_news_of(_about(decision), fresh))
        changed["counted"] = True
    if changed:
        connection.execute(sa.update(table).where(this).values(changed))


def _insert_feedback(
    connection: sa.Connection,
    owner: Owner,
    entry: FeedbackEntry,
    written: Written,
    *,
    counts: bool,
) -> None:
    decision = (
        _last_of_run(connection, owner, entry.run_id)
        if entry.decision_id is None
        else _decision(connection, entry.decision_id)
    )
    if decision is not None and not _is_mine(decision, owner):
        assert entry.decision_id is not None
        written.foreign.add(entry.decision_id)
        return
    row = _row(owner, entry) | {"counted": counts and decision is not None}
    if _insert_new(connection, tables.feedback, row) and row["counted"] and decision is not None:
        written.news.append(_news_of(_about(decision), row))


def _is_mine(row: Mapping[Any, Any], owner: Owner) -> bool:
    return (row["namespace"], row["deployment"]) == (owner.namespace, owner.deployment)


_DECISION = sa.select(*_ABOUT, tables.decisions.c.namespace, tables.decisions.c.deployment)


def _decision(connection: sa.Connection, decision_id: uuid.UUID) -> Mapping[Any, Any] | None:
    query = _DECISION.where(tables.decisions.c.id == decision_id)
    return connection.execute(query).mappings().one_or_none()


def _last_of_run(
    connection: sa.Connection, owner: Owner, run_id: str | None
) -> Mapping[Any, Any] | None:
    """Return what a word on a whole run counts for: its last decision."""
    query = (
        _DECISION.where(tables.decisions.c.run_id == run_id, *tables.owned(tables.decisions, owner))
        .order_by(tables.decisions.c.at.desc(), tables.decisions.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).mappings().one_or_none()


def _news_of(about: _About, row: Mapping[Any, Any]) -> News:
    corrected = row.get("corrected_action")
    label = row.get("label")
    return News(
        about.policy,
        about.version,
        about.role,
        reward=row.get("reward"),
        success=row.get("success"),
        followed=row.get("followed"),
        feedback="corrected_action" in row,
        label=None if label is None else Label(label),
        overridden=corrected is not None and corrected != about.action,
    )
