"""Where `policyctl serve` keeps what is decided, and how: what the operator tells a pod."""

import json
import secrets
from pathlib import Path

from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.environment import (
    DEPLOYMENT_VARIABLE,
    LOG_REDACT_KEY_FILE_VARIABLE,
    LOG_REDACT_VARIABLE,
    LOG_RETENTION_VARIABLE,
    LOG_SPOOL_VARIABLE,
    LOG_URL_FILE_VARIABLE,
    NAMESPACE_VARIABLE,
)
from policy_api.v1alpha1.decision_log import REDACTION_KEY, DecisionLog

LOCAL = "local"
"""Namespace of what is kept here."""


def environment(
    made: PolicyManifest, log: str, scratch: Path, wanted: DecisionLog | None
) -> dict[str, str]:
    """Return what tells the server where to keep what it decides.

    Args:
        made: What is served.
        log: A file, or a database's URL: it goes into a file, since others read the environment.
        scratch: Folder of this process.
        wanted: What the deployment says: what is redacted, and when it is deleted.
    """
    remote = "://" in log
    beside = Path(made.policy) if remote else Path(log)
    told = {
        LOG_URL_FILE_VARIABLE: str(_secret(scratch / "log-url", log if remote else _whole(log))),
        LOG_SPOOL_VARIABLE: _whole(f"{beside}.spool"),
        NAMESPACE_VARIABLE: LOCAL,
        DEPLOYMENT_VARIABLE: made.policy,
    }
    if wanted is not None and wanted.retention_days is not None:
        told[LOG_RETENTION_VARIABLE] = str(wanted.retention_days)
    if wanted is not None and wanted.redact:
        key = Path(_whole(f"{beside}.{REDACTION_KEY}"))
        if not key.exists():  # the same from one start to the next: equal values have equal hashes
            _secret(key, secrets.token_hex())
        told[LOG_REDACT_VARIABLE] = json.dumps(wanted.redact)
        told[LOG_REDACT_KEY_FILE_VARIABLE] = str(key)
    return told


def _secret(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    return file


def _whole(path: str) -> str:
    return str(Path(path).resolve())
