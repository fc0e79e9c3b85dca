"""Tests of the policy server. Those that need torch are collected only where it is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_real_server.py"]
