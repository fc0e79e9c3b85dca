"""What a pod finds around it: paths, and the names of its environment variables."""

from typing import Final

# Paths inside a trainer or server pod.
RUN_DIR: Final = "/etc/policyops/run"
RUN_FILE: Final = "run.json"
RULES_FILE: Final = "checkpoints.json"  # beside it; older images do not look for it
SERVING_DIR: Final = "/etc/policyops/serving"
SERVING_FILE: Final = "serving.json"  # in it; absent where an older operator made the pod
CA_FILE: Final = "ca.crt"
TOKEN_DIR: Final = "/var/run/secrets/policyops"  # noqa: S105 - a path
TOKEN_FILE: Final = "token"  # noqa: S105 - a file name
PVC_ROOT: Final = "/var/lib/policyops/pvc"
CONFIGMAP_ROOT: Final = "/var/lib/policyops/configmap"
TERMINATION_LOG: Final = "/dev/termination-log"
TERMINATION_LIMIT: Final = 4096  # bytes; the kubelet cuts a longer message

# Of a trainer pod. Where it reports its progress: transformers reads these by itself (KEP-2779).
STATUS_URL_VARIABLE: Final = "KUBEFLOW_TRAINER_SERVER_URL"
STATUS_CA_VARIABLE: Final = "KUBEFLOW_TRAINER_SERVER_CA_CERT"  # a file
STATUS_TOKEN_VARIABLE: Final = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 - a file's path
JUDGE_KEY_VARIABLE: Final = "POLICYOPS_JUDGE_KEY"  # the API key of its judge's endpoint
CPU_VARIABLE: Final = "POLICYOPS_CPU_MILLIS"  # thousandths of a CPU that the trainer requests

# Of a server pod: which artifact it serves.
ARTIFACT_PATH_VARIABLE: Final = "POLICY_ARTIFACT_PATH"
ARTIFACT_SHA256_VARIABLE: Final = "POLICY_ARTIFACT_SHA256"
POLICY_NAME_VARIABLE: Final = "POLICY_NAME"
POLICY_VERSION_VARIABLE: Final = "POLICY_VERSION"
# …and who may call it: a file of tokens; unset: everybody.
TOKEN_FILE_VARIABLE: Final = "AUTH_TOKEN_FILE"  # noqa: S105 - a file's path
TRUST_LOOPBACK_VARIABLE: Final = "TRUST_LOOPBACK"  # 1: callers of this machine are known
ARTIFACT_ROOT: Final = "/var/lib/policyops/artifact"  # where an engine that is not ours finds it
DOWNLOAD_VARIABLE: Final = "DOWNLOAD_FOLDER"
CALLERS_DIR: Final = "/var/run/secrets/policyops-callers"
# …where it keeps what it decides; unset: nowhere.
LOG_URL_FILE_VARIABLE: Final = "DECISION_LOG_URL_FILE"
LOG_REDACT_VARIABLE: Final = "DECISION_LOG_REDACT"  # JSON pointers, as a JSON list
LOG_REDACT_KEY_FILE_VARIABLE: Final = "DECISION_LOG_REDACTION_KEY_FILE"
LOG_RETENTION_VARIABLE: Final = "DECISION_LOG_RETENTION_DAYS"
LOG_SPOOL_VARIABLE: Final = "DECISION_LOG_SPOOL"  # a folder that outlives the container
LOG_DIR: Final = "/var/run/secrets/policyops-decision-log"
LOG_SPOOL_DIR: Final = "/var/spool/policyops"
NAMESPACE_VARIABLE: Final = "POLICY_NAMESPACE"  # of the PolicyDeployment, in which its log lives
DEPLOYMENT_VARIABLE: Final = "POLICY_DEPLOYMENT"
# …and the file that says how decisions are made; it may change while the server runs.
SERVING_PATH_VARIABLE: Final = "POLICY_SERVING_PATH"
