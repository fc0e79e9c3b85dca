"""Tests of policy_models. Those of texts need torch."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_rendering.py", "test_text_generator.py"]
