"""Tests of the policy server. Each is collected only where what it needs is installed.

Torch is in the trainer's environment alone, schemathesis in the other one.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from postgres import Postgres, postgres

NEEDS = {"test_real_server.py": "torch", "test_openapi.py": "schemathesis"}
collect_ignore = [name for name, library in NEEDS.items() if find_spec(library) is None]


@pytest.fixture(scope="session")
def pg() -> Iterator[Postgres]:
    """Run a PostgreSQL; a test that stops it starts it again."""
    with postgres() as running:
        yield running
