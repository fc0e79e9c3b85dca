"""Real data sets, which are not part of the project: POLICYOPS_TEST_DATA names their folder."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("POLICYOPS_TEST_DATA") or "/nonexistent")

needed = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="needs real data: set POLICYOPS_TEST_DATA (CONTRIBUTING.md)"
)
