"""Logs as one JSON object a line, times in UTC with milliseconds; never a prompt or an answer."""

import json
import logging
import sys
from datetime import UTC, datetime

from typing_extensions import override


class JsonFormatter(logging.Formatter):
    """Formats a record; `extra={"fields": {...}}` adds its keys to the line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def setup() -> None:
    """Send everything from level INFO to standard output."""
    # Nothing of this is in a line, and finding it out takes longer than writing the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as Python's HOWTO says
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Each decision has its own line: uvicorn's and httpx's line a request would double it.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the log's own line says it
