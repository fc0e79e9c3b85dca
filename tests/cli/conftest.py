"""Tests of policyctl. One reads what the integration tests send, whose client the trainer lacks."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("kubernetes") else ["test_same_as_cluster.py"]
