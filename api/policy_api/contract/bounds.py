"""Bounds of what a trainer tells, the same as the API server's. Pure.

A trainer may be any image, and a diverged or a broken one sends any number. What goes into a status
must fit its schema, or no status could be written any more. So everything is clamped, deduplicated
or left out where it is read.
"""

import math
from collections.abc import Callable
from typing import Any

from policy_api.base import Metric

COUNT = 2**53 - 1  # whole numbers are exact in every JSON reader up to here (RFC 8259, section 6)
SECONDS = 2**31 - 1  # 68 years
VERSION = 10**9 - 1  # its digits fit into the names that are made of it
METRICS = 64  # of a training's status and of a PolicyVersion
REPORTED_METRICS = 256  # more of them do not fit into a termination message
NAME = 63


def count(value: object) -> int | None:
    """Return a whole number from 0 to COUNT; None for what is no such number at all."""
    found = number(value)
    if found is None or math.isnan(found) or found < 0:
        return None
    return min(int(value), COUNT) if isinstance(value, int) else int(min(found, COUNT))


def number(value: object) -> float | None:
    """Return a float, infinite for what is too large; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def at_most(most: int) -> Callable[[Any], Any]:
    """Return what clamps a number from above, and leaves the rest to the next check."""

    def clamp(value: Any) -> Any:
        found = number(value)
        return most if found is not None and found > most else value

    return clamp


def text(most: int, otherwise: str | None = None) -> Callable[[Any], str | None]:
    """Return what cuts a text to so many characters, and takes something else for what is none."""
    return lambda value: value[:most] if isinstance(value, str) else otherwise


def is_name(name: object) -> bool:
    """Whether a metric may have this name."""
    return isinstance(name, str) and 0 < len(name) <= NAME and name.isprintable()


def metrics(told: object) -> tuple[Metric, ...]:
    """Return the metrics of a list that can be read, each name once: the last one counts.

    NaN and infinite values stay: the verdict on them says so.
    """
    entries = told if isinstance(told, list | tuple) else ()
    found = {m.name: m for entry in entries if (m := _metric(entry)) is not None}
    return tuple(found.values())[:REPORTED_METRICS]


def _metric(told: object) -> Metric | None:
    if isinstance(told, Metric):
        return told
    if not isinstance(told, dict) or not is_name(told.get("name")):
        return None
    value, confidence = number(told.get("value")), number(told.get("confidence"))
    if value is None:
        return None
    return Metric(
        name=told["name"],
        value=value,
        low=number(told.get("low")),
        high=number(told.get("high")),
        confidence=confidence if confidence is not None and 0 < confidence < 1 else None,
        step=count(told.get("step")),
    )
