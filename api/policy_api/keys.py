"""Every label, annotation, reason and metric name that a user may grep, each written once."""

from typing import Final

GROUP: Final = "policyops.dev"
API_VERSION: Final = "v1alpha1"
GROUP_VERSION: Final = f"{GROUP}/{API_VERSION}"
FIELD_MANAGER: Final = "policy-operator"
KIND_TRAINING: Final = "PolicyTraining"
KIND_DEPLOYMENT: Final = "PolicyDeployment"
KIND_VERSION: Final = "PolicyVersion"
AUDIENCE: Final = GROUP  # of the projected token with which a trainer reports

# Labels on everything that the operator creates.
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_PROGRAM: Final = "app.kubernetes.io/name"  # of the operator's own pods
LABEL_POLICY: Final = f"{GROUP}/policy"
LABEL_VERSION: Final = f"{GROUP}/version"
LABEL_TRAINING: Final = f"{GROUP}/training"
LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
LABEL_SWEEP: Final = f"{GROUP}/sweep"  # of Jobs that remove checkpoints
LABEL_LEADER: Final = f"{GROUP}/leader"
LABEL_METRICS: Final = f"{GROUP}/metrics"  # of namespaces that may read metrics: `allowed`
LABEL_RULES: Final = f"{GROUP}/prometheus-rules"

# Annotations: a person's word on a PolicyDeployment.
ANNOTATION_ABORT: Final = f"{GROUP}/abort"
ANNOTATION_RETRY: Final = f"{GROUP}/retry"

# Annotations on what the operator makes.
ANNOTATION_APPLIED: Final = f"{GROUP}/applied"  # checksum of the manifest as applied
ANNOTATION_TEMPLATE: Final = (
    f"{GROUP}/pod-template"  # of a server: its pods, and what asked for them
)
ANNOTATION_ROLLBACK: Final = f"{GROUP}/rollback"  # on the HTTPRoute: why its weights went back

# Annotation on a training's Job that the operator has suspended: why. A Job that is suspended
# without it was suspended by somebody else, e.g. Kueue.
ANNOTATION_STOPPED_BY: Final = f"{GROUP}/stopped-by"
# …and on every Job of a training: name of the PolicyVersion that it starts from.
ANNOTATION_BASE: Final = f"{GROUP}/base-version"
# …and of those that take part in it, by role: `reward=rm-v3,version:2=review-forge-v2`.
ANNOTATION_REFERENCES: Final = f"{GROUP}/reference-versions"

# Labels on a rendered alert, which Alertmanager sends back.
ALERT_LABEL_NAMESPACE: Final = "policyops_namespace"
ALERT_LABEL_DEPLOYMENT: Final = "policyops_deployment"
ALERT_LABEL_ALERT: Final = "policyops_alert"
ALERT_LABEL_VERSION: Final = "version"
ALERT_ANNOTATION_RULES: Final = "policyops_rules"  # checksum of the rule group

# Conditions of a PolicyTraining.
COND_RUNNING: Final = "Running"
COND_SUSPENDED: Final = "Suspended"
COND_SUCCEEDED: Final = "Succeeded"

# Conditions of a PolicyVersion.
COND_ACCEPTED: Final = "Accepted"
COND_SERVING: Final = "Serving"
COND_REJECTED: Final = "Rejected"

# Conditions of a PolicyDeployment.
COND_READY: Final = "Ready"
COND_PROGRESSING: Final = "Progressing"
COND_DEGRADED: Final = "Degraded"
COND_MONITORING: Final = "MonitoringAvailable"

# Exit codes of the trainer's PID 1 (sysexits.h where it has a word for it).
EXIT_SUCCEEDED: Final = 0
EXIT_DATA_INVALID: Final = 65
EXIT_TRAINER_FAILED: Final = 70
EXIT_PREEMPTED: Final = 75
EXIT_CONFIG_INVALID: Final = 78
EXIT_OUT_OF_MEMORY: Final = 137

# The role under which a request reached a server; the HTTPRoute sets it for each backend.
ROLE_HEADER: Final = "x-policyops-role"
ROLE_STABLE: Final = "stable"
ROLE_CANDIDATE: Final = "candidate"
ROLE_DIRECT: Final = "direct"  # not through the route

# The share of traffic that the version had when a request reached it, in percent; set likewise.
WEIGHT_HEADER: Final = "x-policyops-weight"

# For whom a known caller calls, in its own words; without a token nobody's is read.
USER_HEADER: Final = "x-policyops-user"

# Metrics of the policy server; labels policy, version, role.
METRIC_DECISIONS: Final = "policyops_decisions_total"
METRIC_DECISION_ERRORS: Final = "policyops_decision_errors_total"
METRIC_DECISION_SECONDS: Final = "policyops_decision_seconds"
METRIC_OVERLOADS: Final = "policyops_overloads_total"
METRIC_UNAUTHORIZED: Final = "policyops_unauthorized_total"
METRIC_UNSEEN_CATEGORIES: Final = "policyops_unseen_categories_total"
METRIC_ANSWERS: Final = "policyops_answers_total"  # also by source
METRIC_BASELINE_ANSWERS: Final = "policyops_baseline_answers_total"  # also by reason
METRIC_AUTO_APPROVED: Final = "policyops_auto_approved_total"
METRIC_CONFIDENCE: Final = "policyops_confidence"
METRIC_SAFETY_VIOLATIONS: Final = "policyops_safety_violations_total"
METRIC_REWARDS: Final = "policyops_rewards_total"
METRIC_REWARD_GAINED: Final = "policyops_reward_gained_total"
METRIC_REWARD_LOST: Final = "policyops_reward_lost_total"
METRIC_REWARD_SQUARES: Final = "policyops_reward_squares_total"
METRIC_OUTCOMES: Final = "policyops_outcomes_total"  # also by success
METRIC_FOLLOWED: Final = "policyops_followed_total"  # also by followed
METRIC_FEEDBACK: Final = "policyops_feedback_total"  # also by label
METRIC_OVERRIDES: Final = "policyops_overrides_total"
METRIC_LOG_QUEUE: Final = "policyops_decision_log_queue"  # without a role, as all of the log's own
METRIC_LOG_SPOOL: Final = "policyops_decision_log_spool_bytes"
METRIC_LOG_DROPPED: Final = "policyops_decision_log_dropped_total"
METRIC_SERVING_CONFIG_ERRORS: Final = "policyops_serving_config_errors_total"  # without a role
METRIC_CANCELLATIONS: Final = "policyops_cancellations_total"
METRIC_TOKENS: Final = "policyops_tokens_total"  # also by kind
METRIC_WAITING_DECISIONS: Final = "policyops_waiting_decisions"  # without a role
METRIC_BATCH_SIZE: Final = "policyops_batch_size"  # without a role
METRIC_THEN: Final = "policyops_then_total"  # also by result
METRIC_ANSWER_SCORE: Final = "policyops_answer_score"  # a summary: _count and _sum
METRIC_ANSWER_SCORE_SQUARES: Final = "policyops_answer_score_squares_total"
METRIC_ANSWER_SCORES_DROPPED: Final = "policyops_answer_scores_dropped_total"  # also by reason

# Metrics of the operator.
METRIC_QUEUE_DEPTH: Final = "policyops_queue_depth"
METRIC_RECONCILE_SECONDS: Final = "policyops_reconcile_seconds"
METRIC_RECONCILE_ERRORS: Final = "policyops_reconcile_errors_total"
METRIC_LAST_EVENT_AGE: Final = "policyops_last_event_age_seconds"
METRIC_API_CALLS: Final = "policyops_api_calls_total"
METRIC_ALERTS_RECEIVED: Final = "policyops_alerts_received_total"
METRIC_LOOP_STALL: Final = "policyops_loop_stall_seconds"
METRIC_LEADER: Final = "policyops_leader"
