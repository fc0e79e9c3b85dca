"""Brings a database's tables up to what this program writes; never down."""

from enum import StrEnum, auto
from importlib.resources import as_file, files

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

_LOCK = 0x706F6C69637930  # of PostgreSQL's advisory locks, "policy0"


class Schema(StrEnum):
    """How a database's tables compare with what this program knows."""

    CURRENT = auto()
    MIGRATED = auto()
    NEWER = auto()
    """A newer program has been here. Steps only add, so what this one writes has its place."""


def migrate(engine: sa.Engine) -> Schema:
    """Create or upgrade the tables, one process at a time.

    Raises:
        sqlalchemy.exc.DBAPIError: The database can't be reached, or forbids it.
    """
    with as_file(files("policy_records") / "migrations") as folder:
        config = Config(attributes={})
        config.set_main_option("script_location", str(folder))
        script = ScriptDirectory.from_config(config)
        known = {step.revision for step in script.walk_revisions()}
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            found = MigrationContext.configure(connection).get_current_revision()
            if found == script.get_current_head():
                return Schema.CURRENT
            if found is not None and found not in known:
                return Schema.NEWER
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return Schema.MIGRATED
