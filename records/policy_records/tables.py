"""The tables. What they are made by is the migrations; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from typing_extensions import override

from policy_records.entries import Owner


class Moment(sa.types.TypeDecorator[datetime]):
    """A moment, in UTC; SQLite keeps no time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    @override
    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


JSON: sa.types.TypeEngine[Any] = sa.JSON(none_as_null=True).with_variant(
    JSONB(none_as_null=True), "postgresql"
)


def _partial(name: str, column: str, condition: str) -> sa.Index:
    """Return an index of the few rows for which a condition holds."""
    where = sa.text(condition)
    return sa.Index(name, column, sqlite_where=where, postgresql_where=where)


metadata = sa.MetaData(naming_convention={"ix": "%(table_name)s_%(column_0_N_name)s"})

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("caller", sa.Text),
    sa.Column("state", JSON),
    sa.Column("prompt", JSON),
    sa.Column("candidates", JSON),
    sa.Column("context", JSON),
    sa.Column("ranking", JSON),
    sa.Column("action", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("fields", JSON),
    sa.Column("propensity", sa.Double),
    sa.Column("confidence", sa.Double),
    sa.Column("auto_approved", sa.Boolean),
    sa.Column("valid", sa.Boolean, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Column("unseen", JSON),
    sa.Column("tokens", sa.Integer),
    sa.Column("latency_ms", sa.Double, nullable=False),
    # Counts of a day by version read this alone.
    sa.Index(None, "namespace", "deployment", "at", "version"),
    _partial("decisions_run_id", "run_id", "run_id IS NOT NULL"),
)

# No foreign keys: what came of a decision may arrive before the decision, at another pod.
outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("decision_id", sa.Uuid, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("reward", sa.Double),
    sa.Column("success", sa.Boolean),
    sa.Column("followed", sa.Boolean),
    sa.Column("next_state", JSON),
    sa.Column("done", sa.Boolean),
    sa.Column("caller", sa.Text),
    # Whether metrics know of it: not before the decision is there, which says whose it is.
    sa.Column("counted", sa.Boolean, nullable=False),
    sa.Index(None, "namespace", "deployment", "at"),
    _partial("outcomes_uncounted", "at", "NOT counted"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("decision_id", sa.Uuid),
    sa.Column("run_id", sa.Text),
    sa.Column("text", sa.Text),
    sa.Column("tags", JSON),
    sa.Column("label", sa.Text),
    sa.Column("corrected_action", sa.Text),
    sa.Column("caller", sa.Text),
    sa.Column("counted", sa.Boolean, nullable=False),
    sa.Index(None, "namespace", "deployment", "at"),
    sa.Index(None, "decision_id"),
    sa.Index(None, "run_id"),
    _partial("feedback_uncounted", "at", "NOT counted"),
)


def owned(table: sa.Table, owner: Owner) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that a row is of this owner's log."""
    return table.c.namespace == owner.namespace, table.c.deployment == owner.deployment
