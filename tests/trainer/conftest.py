"""Tests of the trainer. Those that need torch are collected only where it is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_ranks.py", "test_runs.py", "test_s3.py"]
