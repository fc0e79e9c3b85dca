"""Log lines: each says which object it is about; text for people, JSON lines for machines."""

import contextlib
import contextvars
import json
import logging
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from typing_extensions import override

_SAY_AGAIN = 60.0  # seconds

_object: contextvars.ContextVar[str] = contextvars.ContextVar("object", default="-")


@contextlib.contextmanager
def about(obj: str) -> Iterator[None]:
    """Put `namespace/name kind` in every line that is logged inside, also by libraries."""
    token = _object.set(obj)
    try:
        yield
    finally:
        _object.reset(token)


class _AddObject(logging.Filter):
    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "object"):  # else given by the caller as `extra`
            record.object = _object.get()
        return True


class _NoRetries(logging.Filter):
    """Leaves out kopf's word on each try of a call, but for one refusal a minute.

    That the API server is away is said by us.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = -math.inf

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("kopf") or not record.msg.startswith("Request attempt"):
            return True
        if "Forbidden" not in record.msg or record.created - self._last < _SAY_AGAIN:
            return False
        self._last = record.created
        return True


class _Json(logging.Formatter):
    """One JSON object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "object": getattr(record, "object", "-"),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def setup(log_format: str, level: str) -> None:
    """Send all logs to stderr in one format; the chatter of libraries starts at WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_AddObject())
    handler.addFilter(_NoRetries())
    handler.setFormatter(
        _Json()
        if log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s [%(object)s] %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("policy_operator").setLevel(level)
