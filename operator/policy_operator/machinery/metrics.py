"""The operator's own metrics; their names are in `policy_api.keys`."""

from policy_api import keys
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# Without this every counter comes with a gauge of when it was made.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Reconciles take milliseconds, a slow API server makes them seconds.
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

QUEUE_DEPTH = Gauge(keys.METRIC_QUEUE_DEPTH, "Keys that wait to be reconciled.")
RECONCILE_SECONDS = Histogram(
    keys.METRIC_RECONCILE_SECONDS, "Time of one reconcile.", ["kind"], buckets=_SECONDS
)
RECONCILE_ERRORS = Counter(
    keys.METRIC_RECONCILE_ERRORS, "Reconciles that failed and are tried again.", ["kind"]
)
LAST_EVENT_AGE = Gauge(
    keys.METRIC_LAST_EVENT_AGE, "Seconds since any watch delivered an event; the Lease's included."
)
API_CALLS = Counter(
    keys.METRIC_API_CALLS, "Calls to the API server; watches excluded.", ["verb", "kind", "code"]
)
ALERTS_RECEIVED = Counter(
    keys.METRIC_ALERTS_RECEIVED, "Webhook deliveries from Alertmanager by response.", ["code"]
)
LOOP_STALL = Gauge(
    keys.METRIC_LOOP_STALL, "Longest time in the last minute that the event loop did not turn."
)
LEADER = Gauge(keys.METRIC_LEADER, "1 while this process holds the Lease.")
