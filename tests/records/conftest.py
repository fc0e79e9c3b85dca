"""Each test of the decision log runs on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from policy_records.database import connect, parse
from policy_records.schema import migrate
from postgres import Postgres, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "log.sqlite3")
    return request.getfixturevalue("server").database()


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = connect(parse(url))
    migrate(made)
    yield made
    made.dispose()
