"""Templates: files with `@NAME@` where a value of this machine goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_PLACE = re.compile(r"@([A-Z][A-Z0-9_]*)@")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put the values in their places. Raises KeyError for a place without a value."""
    return _PLACE.sub(lambda found: values[found[1]], text)


def render(path: Path, values: Mapping[str, str]) -> str:
    """Read a template file and fill it."""
    return fill(path.read_text(), values)
