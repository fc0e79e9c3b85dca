"""Deletes what is older than it may be, in batches that hold no lock for long."""

from datetime import datetime

import sqlalchemy as sa

from policy_records import tables
from policy_records.entries import Owner

BATCH = 5000  # rows a transaction


def delete_before(engine: sa.Engine, owner: Owner, moment: datetime) -> int:
    """Delete one batch of decisions, outcomes and feedback of before `moment`; return how many.

    0 says that nothing is left to delete.

    Raises:
        sqlalchemy.exc.DBAPIError: The database can't be reached.
    """
    deleted = 0
    with engine.begin() as connection:
        for table in (tables.decisions, tables.outcomes, tables.feedback):
            (key,) = table.primary_key.columns
            old = (
                sa.select(key)
                .where(*tables.owned(table, owner), table.c.at < moment)
                .order_by(table.c.at)
                .limit(BATCH)
            )
            deleted += connection.execute(sa.delete(table).where(key.in_(old))).rowcount
    return deleted
