"""Opens the decision log that the environment names."""

from pathlib import Path

import sqlalchemy as sa
from policy_records.database import DatabaseURLInvalidError, parse
from policy_records.entries import Owner
from policy_records.redaction import PointerInvalidError, Redactor

from policy_server.records.log import DecisionLog
from policy_server.records.metrics import LogMetrics
from policy_server.records.writer import LogSettings, LogWriter
from policy_server.settings import LogOptions, SettingsInvalidError

LEAST_KEY_BYTES = 16


def open_log(options: LogOptions, metrics: LogMetrics) -> DecisionLog:
    """Open a log; the database need not be there yet.

    Raises:
        SettingsInvalidError: It can't be kept as it should; the message says what to change.
    """
    redactor = _redactor(options)
    settings = LogSettings(
        lambda: _url(options.url_file),
        Owner(options.namespace, options.deployment),
        options.spool_folder,
        retention_days=options.retention_days,
    )
    try:
        writer = LogWriter(settings, metrics, metrics.heard)
    except DatabaseURLInvalidError as error:
        raise SettingsInvalidError(str(error)) from error
    except OSError as error:
        raise SettingsInvalidError(
            f"the decision log needs {error.filename}: {error.strerror}"
        ) from error
    return DecisionLog(writer, redactor)


def _url(file: Path) -> sa.URL:
    return parse(file.read_text(encoding="utf-8").strip())


def _redactor(options: LogOptions) -> Redactor:
    key, file = b"", options.redaction_key_file
    if options.redact:
        try:
            key = b"" if file is None else file.read_bytes().strip()
        except OSError:
            key = b""
        if len(key) < LEAST_KEY_BYTES:
            where = "" if file is None else f" in the Secret {file.parent.name}, as {file.name}"
            raise SettingsInvalidError(
                f"redact needs a key of at least {LEAST_KEY_BYTES} bytes{where}: what is redacted "
                "is replaced by a hash that nobody without it can try values against"
            )
    try:
        return Redactor(options.redact, key)
    except PointerInvalidError as error:
        raise SettingsInvalidError(str(error)) from error
