"""Reads the log: one decision with what came of it, the latest, counts, and all in order."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from policy_records import tables
from policy_records.entries import Owner

PAGE = 1000  # rows in memory while exporting
Row = sa.RowMapping
_NOT_TOLD = {"decision_id", "namespace", "deployment", "counted"}


def find(engine: sa.Engine, owner: Owner, decision_id: uuid.UUID) -> dict[str, Any] | None:
    """Return a decision with its `outcome` and its `feedback`, or None.

    Raises:
        sqlalchemy.exc.DBAPIError: The database can't be reached.
    """
    decisions, outcomes, feedback = tables.decisions, tables.outcomes, tables.feedback
    with _reader(engine) as connection:
        query = sa.select(decisions).where(
            decisions.c.id == decision_id, *tables.owned(decisions, owner)
        )
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        outcome = sa.select(outcomes).where(
            outcomes.c.decision_id == decision_id, *tables.owned(outcomes, owner)
        )
        said = [feedback.c.decision_id == decision_id]
        if row["run_id"] is not None:
            said.append(feedback.c.run_id == row["run_id"])
        words = (
            sa.select(feedback)
            .where(sa.or_(*said), *tables.owned(feedback, owner))
            .order_by(feedback.c.at)
            .limit(PAGE)
        )
        return {
            **row,
            "outcome": connection.execute(outcome).mappings().one_or_none(),
            "feedback": list(connection.execute(words).mappings()),
        }


def counts(engine: sa.Engine, owner: Owner, since: datetime, until: datetime) -> dict[int, int]:
    """Return how many decisions each version made from `since` up to `until`."""
    decisions = tables.decisions
    query = (
        sa.select(decisions.c.version, sa.func.count())
        .where(*tables.owned(decisions, owner), decisions.c.at >= since, decisions.c.at < until)
        .group_by(decisions.c.version)
    )
    with _reader(engine) as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


@dataclass(frozen=True)
class Tally:
    """How the decisions of one version, made by the policy or by its baseline, went."""

    version: int
    source: str
    made: int
    followed_known: int
    followed: int
    success_known: int
    succeeded: int


def tallies(engine: sa.Engine, owner: Owner, since: datetime, until: datetime) -> list[Tally]:
    """Return how decisions from `since` up to `until` went, by version and source."""
    decisions, outcomes = tables.decisions, tables.outcomes
    made = sa.func.count()
    counted = (
        sa.func.count(outcomes.c.followed),
        made.filter(outcomes.c.followed),
        sa.func.count(outcomes.c.success),
        made.filter(outcomes.c.success),
    )
    group = (decisions.c.version, decisions.c.source)
    query = (
        sa.select(*group, made, *counted)
        .select_from(decisions.outerjoin(outcomes, outcomes.c.decision_id == decisions.c.id))
        .where(*tables.owned(decisions, owner), decisions.c.at >= since, decisions.c.at < until)
        .group_by(*group)
        .order_by(*group)
    )
    with _reader(engine) as connection:
        return [Tally(*row) for row in connection.execute(query)]


def latest(engine: sa.Engine, owner: Owner, count: int) -> list[dict[str, Any]]:
    """Return the latest decisions with what came of them, the newest first, as `records`."""
    query = _joined(owner).order_by(tables.decisions.c.at.desc(), tables.decisions.c.id.desc())
    with _reader(engine) as connection:
        page = list(connection.execute(query.limit(count)).mappings())
    return list(_whole(engine, owner, page))


def every(
    engine: sa.Engine, owner: Owner, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Row]:
    """Yield decisions in the order of their time, each with what came of it.

    Memory does not grow with their number. An outcome's columns are named as in its table, those
    that a decision has too with `outcome_` before them; None where nothing came.
    """
    decisions = tables.decisions
    query = _joined(owner).order_by(decisions.c.at, decisions.c.id)
    yield from _stream(engine, query, decisions.c.at, since, until)


def records(
    engine: sa.Engine, owner: Owner, since: datetime | None = None, until: datetime | None = None
) -> Iterator[dict[str, Any]]:
    """Yield decisions in the order of their time, each as `find` returns it.

    Memory does not grow with their number.
    """
    rows = every(engine, owner, since, until)
    while page := list(islice(rows, PAGE)):
        yield from _whole(engine, owner, page)


def owners(engine: sa.Engine) -> list[Owner]:
    """Return whose decisions there are."""
    decisions = tables.decisions
    query = (
        sa.select(decisions.c.namespace, decisions.c.deployment)
        .distinct()
        .order_by(decisions.c.namespace, decisions.c.deployment)
    )
    with _reader(engine) as connection:
        return [Owner(*row) for row in connection.execute(query)]


def words(
    engine: sa.Engine, owner: Owner, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Row]:
    """Yield feedback in the order of its time, with the decision that it is about.

    A word on a run is about each decision of the run. The decision's columns have `decision_`
    before them; None where the decision is not there.
    """
    feedback, decisions = tables.feedback, tables.decisions
    about = sa.or_(
        feedback.c.decision_id == decisions.c.id,
        sa.and_(feedback.c.decision_id.is_(None), feedback.c.run_id == decisions.c.run_id),
    )
    query = (
        sa.select(feedback, *(column.label(f"decision_{column.name}") for column in decisions.c))
        .select_from(feedback.outerjoin(decisions, sa.and_(about, *tables.owned(decisions, owner))))
        .where(*tables.owned(feedback, owner))
        .order_by(feedback.c.at, feedback.c.id, decisions.c.at)
    )
    yield from _stream(engine, query, feedback.c.at, since, until)


def _stream(
    engine: sa.Engine,
    query: sa.Select[Any],
    at: sa.ColumnElement[datetime],
    since: datetime | None,
    until: datetime | None,
) -> Iterator[Row]:
    """Yield what a query finds with `at` in a span of time, a page in memory."""
    if since is not None:
        query = query.where(at >= since)
    if until is not None:
        query = query.where(at < until)
    with _reader(engine) as connection:
        stream = connection.execution_options(stream_results=True, yield_per=PAGE)
        yield from stream.execute(query).mappings()


def _joined(owner: Owner) -> sa.Select[Any]:
    decisions, outcomes = tables.decisions, tables.outcomes
    taken = {column.name for column in decisions.c}
    parts = (
        column.label(f"outcome_{column.name}") if column.name in taken else column
        for column in outcomes.c
        if column.name not in _NOT_TOLD
    )
    return (
        sa.select(decisions, *parts)
        .select_from(decisions.outerjoin(outcomes, outcomes.c.decision_id == decisions.c.id))
        .where(*tables.owned(decisions, owner))
    )


def _reader(engine: sa.Engine) -> sa.Connection:
    return engine.connect().execution_options(read_only=True)


def _whole(engine: sa.Engine, owner: Owner, page: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield rows of `_joined` as `find` returns a decision; their feedback is one query."""
    said = _feedback_on(engine, owner, page)
    for row in page:
        found: dict[str, Any] = {column.name: row[column.name] for column in tables.decisions.c}
        yield {**found, "outcome": _outcome_of(row), "feedback": said(row)}


def _outcome_of(row: Row) -> dict[str, Any] | None:
    """Return the outcome's columns of a row of `every` under their own names; None: none came."""
    if row["outcome_at"] is None:
        return None
    taken = {column.name for column in tables.decisions.c}
    own = (c.name for c in tables.outcomes.c if c.name not in _NOT_TOLD)
    return {name: row[f"outcome_{name}" if name in taken else name] for name in own}


def _feedback_on(
    engine: sa.Engine, owner: Owner, page: Sequence[Row]
) -> Callable[[Row], list[Row]]:
    """Return what finds the feedback on a decision of a page, or on its run, in order."""
    feedback = tables.feedback
    runs = {row["run_id"] for row in page} - {None}
    query = (
        sa.select(feedback)
        .where(
            sa.or_(
                feedback.c.decision_id.in_([row["id"] for row in page]),
                feedback.c.run_id.in_(runs),
            ),
            *tables.owned(feedback, owner),
        )
        .order_by(feedback.c.at, feedback.c.id)
    )
    by_decision: dict[uuid.UUID, list[Row]] = {}
    by_run: dict[str, list[Row]] = {}
    with _reader(engine) as connection:
        for word in connection.execute(query).mappings():
            if word["decision_id"] is not None:
                by_decision.setdefault(word["decision_id"], []).append(word)
            else:
                by_run.setdefault(word["run_id"], []).append(word)

    def on(row: Row) -> list[Row]:
        found = [*by_decision.get(row["id"], ()), *by_run.get(row["run_id"], ())]
        return sorted(found, key=lambda word: (word["at"], word["id"]))

    return on
