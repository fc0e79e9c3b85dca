"""What a server pod needs to keep what it decides."""

import json

from policy_api.contract.environment import (
    DEPLOYMENT_VARIABLE,
    LOG_DIR,
    LOG_REDACT_KEY_FILE_VARIABLE,
    LOG_REDACT_VARIABLE,
    LOG_RETENTION_VARIABLE,
    LOG_SPOOL_DIR,
    LOG_SPOOL_VARIABLE,
    LOG_URL_FILE_VARIABLE,
    NAMESPACE_VARIABLE,
)
from policy_api.v1alpha1.decision_log import REDACTION_KEY

from policy_operator.machinery.cache import Obj
from policy_operator.rollout.types import PolicyDeployment

_READABLE = 0o440  # by the server's user, through the pod's fsGroup
SPOOL_LIMIT = "512Mi"  # more than the server writes


def kept(pdep: PolicyDeployment) -> tuple[list[Obj], list[Obj], dict[str, str]]:
    """Return volumes, mounts and environment of a server that keeps a log; else nothing.

    The Secret is optional, as that of the callers is: the server ends and says what is missing.
    The spool outlives a container, not a pod: a server that is told to end brings it to the
    database first.
    """
    log = pdep.spec.server.decision_log
    if log is None:
        return [], [], {}
    ref = log.secret_ref
    folder = f"{LOG_DIR}/{ref.name}"  # its last word has the path: the Secret, and its key
    keys = [ref.key, *([REDACTION_KEY] if log.redact else ())]
    volumes: list[Obj] = [
        {
            "name": "decision-log",
            "secret": {
                "secretName": ref.name,
                "items": [{"key": key, "path": key} for key in keys],
                "defaultMode": _READABLE,
                "optional": True,
            },
        },
        {"name": "decision-log-spool", "emptyDir": {"sizeLimit": SPOOL_LIMIT}},
    ]
    mounts: list[Obj] = [
        {"name": "decision-log", "mountPath": folder, "readOnly": True},
        {"name": "decision-log-spool", "mountPath": LOG_SPOOL_DIR},
    ]
    told = {
        LOG_URL_FILE_VARIABLE: f"{folder}/{ref.key}",
        LOG_SPOOL_VARIABLE: LOG_SPOOL_DIR,
        NAMESPACE_VARIABLE: pdep.meta.namespace,
        DEPLOYMENT_VARIABLE: pdep.meta.name,
    }
    if log.retention_days is not None:
        told[LOG_RETENTION_VARIABLE] = str(log.retention_days)
    if log.redact:
        told[LOG_REDACT_VARIABLE] = json.dumps(log.redact)
        told[LOG_REDACT_KEY_FILE_VARIABLE] = f"{folder}/{REDACTION_KEY}"
    return volumes, mounts, told
