"""Tests of policy_models. Those of texts need torch."""

from importlib.util import find_spec

NEED_TORCH = ("joining", "rendering", "text_generator")

collect_ignore = [] if find_spec("torch") else [f"test_{name}.py" for name in NEED_TORCH]
