"""Kubernetes quantities: `500m`, `2`, `1e3`, `4Gi`. Pure."""

import math
import re
from typing import Any

from policy_api.v1alpha1.resources import QUANTITY

_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_SUFFIXES |= {"E": 1e18} | {f"{c}i": 2.0 ** (10 * (n + 1)) for n, c in enumerate("KMGTPE")}
_PARTS = re.compile(r"([-+0-9.eE]*?[0-9.])([numkMGTPE]|[KMGTPE]i)?")


def quantity(value: Any, otherwise: float = 0.0) -> float:
    """Return a quantity as a number; what is none, or below 0, counts as said."""
    text = str(value)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return otherwise
    try:
        found = float(parts[1]) * _SUFFIXES.get(parts[2] or "", 1.0)
    except ValueError:
        return otherwise
    return found if math.isfinite(found) and found >= 0 else otherwise


def is_quantity(value: Any) -> bool:
    """Whether the API server takes this as a quantity."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return isinstance(value, int) or re.fullmatch(QUANTITY, value) is not None
