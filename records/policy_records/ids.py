"""Identifiers that sort by time, so that a table's primary key grows at its end."""

import secrets
import time
import uuid

_MILLISECONDS, _VERSION, _VARIANT = 80, 0x7 << 76, 0b10 << 62


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7: 48 bits of Unix time in milliseconds, 74 of chance.

    Source: RFC 9562, section 5.7; Python's own comes with 3.14.
    """
    milliseconds = time.time_ns() // 1_000_000
    high, low = secrets.randbits(12), secrets.randbits(62)
    return uuid.UUID(int=milliseconds << _MILLISECONDS | _VERSION | high << 64 | _VARIANT | low)
