"""Decisions, their outcomes, and feedback."""

import sqlalchemy as sa
from alembic import op

from policy_records.tables import JSON, Moment

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("at", Moment, nullable=False),
        *_owner(),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("run_id", "request_id", "caller")),
        *(sa.Column(name, JSON) for name in ("state", "prompt", "candidates", "context")),
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
    )
    _index("decisions", "namespace", "deployment", "at", "version")
    op.create_index(
        "decisions_run_id",
        "decisions",
        ["run_id"],
        sqlite_where=sa.text("run_id IS NOT NULL"),
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_table(
        "outcomes",
        sa.Column("decision_id", sa.Uuid, primary_key=True),
        sa.Column("at", Moment, nullable=False),
        *_owner(),
        sa.Column("reward", sa.Double),
        sa.Column("success", sa.Boolean),
        sa.Column("followed", sa.Boolean),
        sa.Column("next_state", JSON),
        sa.Column("done", sa.Boolean),
        sa.Column("caller", sa.Text),
        sa.Column("counted", sa.Boolean, nullable=False),
    )
    _told("outcomes")
    op.create_table(
        "feedback",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("at", Moment, nullable=False),
        *_owner(),
        sa.Column("decision_id", sa.Uuid),
        sa.Column("run_id", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("tags", JSON),
        sa.Column("label", sa.Text),
        sa.Column("corrected_action", sa.Text),
        sa.Column("caller", sa.Text),
        sa.Column("counted", sa.Boolean, nullable=False),
    )
    _told("feedback")
    _index("feedback", "decision_id")
    _index("feedback", "run_id")


def _owner() -> tuple[sa.Column[str], ...]:
    return tuple(sa.Column(name, sa.Text, nullable=False) for name in ("namespace", "deployment"))


def _told(table: str) -> None:
    _index(table, "namespace", "deployment", "at")
    op.create_index(
        f"{table}_uncounted",
        table,
        ["at"],
        sqlite_where=sa.text("NOT counted"),
        postgresql_where=sa.text("NOT counted"),
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(f"{table}_{'_'.join(columns)}", table, list(columns))
