"""Every reason of every condition, state and Event, each written once: users grep them."""

from typing import Final

# Reasons of a PolicyTraining's conditions, in the order of its life; `status.state` is one of them.
UNKNOWN_FIELD: Final = "UnknownField"  # the CRD is newer than the operator; also of a rollout
WAITING_FOR_BASE: Final = "WaitingForBase"
WAITING_FOR_REFERENCE: Final = "WaitingForReference"
WAITING_FOR_DELETION: Final = "WaitingForDeletion"  # of what an older training of its name left
STARTING: Final = "Starting"
UNSCHEDULABLE: Final = "Unschedulable"
IMAGE_NOT_FOUND: Final = "ImageNotFound"
CONTAINER_NOT_STARTED: Final = "ContainerNotStarted"
JOB_SUSPENDED: Final = "JobSuspended"  # by somebody else, e.g. Kueue; it waits for its Job
REFUSED: Final = "Refused"  # the API server takes no Job or pod now, e.g. a quota is used up
TRAINING: Final = "Training"
ENDING: Final = "Ending"  # a pod has ended or is being deleted, so the others end too
POD_STUCK: Final = "PodStuck"  # a pod that is deleted does not end: its node may be lost
RETRYING: Final = "Retrying"  # after a crash or a preemption, before the next attempt
SUSPENDING: Final = "Suspending"
SUSPENDED: Final = "Suspended"
RESUMED: Final = "Resumed"
SUCCEEDED: Final = "Succeeded"
EXIT_CRITERIA_UNMET: Final = "ExitCriteriaUnmet"
KEPT: Final = "Kept"  # unmet exit criteria, and onUnmet is Keep; also of a PolicyVersion's Accepted
BASE_FAILED: Final = "BaseFailed"
REFERENCE_FAILED: Final = "ReferenceFailed"
CIRCULAR_DEPENDENCY: Final = "CircularDependency"  # trainings wait for each other
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
BUDGET_EXCEEDED: Final = "BudgetExceeded"
VERSION_CONFLICT: Final = "VersionConflict"
EXIT_CRITERIA_MET: Final = "ExitCriteriaMet"  # of a PolicyVersion's Accepted

# Of a PolicyTraining and of a PolicyDeployment: the operator may not read what it needs.
PERMISSION_MISSING: Final = "PermissionMissing"

# Event of the operator's own Secret.
WEBHOOK_TOKEN_MISSING: Final = "WebhookTokenMissing"  # noqa: S105 - a reason

# Events of a PolicyTraining.
ATTEMPT_STARTED: Final = "AttemptStarted"
CHECKPOINTS_REMOVED: Final = "CheckpointsRemoved"

# Reasons of a PolicyDeployment's Progressing, in the order of a rollout; `status.state` is one.
WAITING_FOR_TRAINING: Final = "WaitingForTraining"
TARGET_NOT_FOUND: Final = "TargetNotFound"
TARGET_INVALID: Final = "TargetInvalid"
TARGET_NOT_ACCEPTED: Final = "TargetNotAccepted"
TARGET_REJECTED: Final = "TargetRejected"  # production rejected it in another deployment
SERVER_INVALID: Final = "ServerInvalid"  # spec.server says what can't be; what runs goes on
WAITING_FOR_SERVER: Final = "WaitingForServer"
WAITING_FOR_ROUTE: Final = "WaitingForRoute"
WAITING_FOR_MONITORING: Final = "WaitingForMonitoring"
CANARY: Final = "Canary"
PROMOTING: Final = "Promoting"
PROMOTED: Final = "Promoted"
ROLLING_BACK: Final = "RollingBack"
ROLLED_BACK: Final = "RolledBack"
HALTED: Final = "Halted"
ABORTED: Final = "Aborted"
PROGRESS_DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
GATEWAY_API_MISSING: Final = "GatewayAPIMissing"
NAME_CONFLICT: Final = "NameConflict"
APPLY_FAILED: Final = "ApplyFailed"

# Events of a rollout beside those, which are also the lines of its history.
STARTED: Final = "Started"
STEP: Final = "Step"
REPLACED: Final = "Replaced"
WITHDRAWN: Final = "Withdrawn"

# Reasons of a PolicyDeployment's Ready and Degraded.
SERVING: Final = "Serving"  # also of a PolicyVersion's Serving
NO_STABLE_VERSION: Final = "NoStableVersion"
NO_ENDPOINTS: Final = "NoEndpoints"
ROUTE_NOT_ACCEPTED: Final = "RouteNotAccepted"
AS_EXPECTED: Final = "AsExpected"
ALERT_FIRING: Final = "AlertFiring"
STABLE_UNHEALTHY: Final = "StableUnhealthy"

# Reasons of a PolicyDeployment's MonitoringAvailable.
NOT_CONFIGURED: Final = "NotConfigured"
REACHABLE: Final = "Reachable"
PROMETHEUS_UNREACHABLE: Final = "PrometheusUnreachable"
RULES_LOADED: Final = "RulesLoaded"
RULES_NOT_LOADED: Final = "RulesNotLoaded"
RULES_FAILING: Final = "RulesFailing"

# Reasons of a PolicyVersion's Serving and Rejected.
NOT_SERVING: Final = "NotServing"
RETRIED: Final = "Retried"
