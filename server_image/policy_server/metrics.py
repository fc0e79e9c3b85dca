"""The server's metrics, on a registry of their own; names and labels are the API's."""

from policy_api import keys
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

ROLES = (keys.ROLE_STABLE, keys.ROLE_CANDIDATE, keys.ROLE_DIRECT)
REASON_ANSWER_SCHEMA = "answer_schema"
REASON_ENGINE = "engine"
REASONS = (REASON_ANSWER_SCHEMA, REASON_ENGINE)
# Seconds. From one token of a small model to a long answer of a large one; 0.5 is there since it is
# the usual latency promise, and a quantile near a bound is exact.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10, 30)
_LABELS = ("policy", "version", "role")


def role_of(header: str | None) -> str:
    """Return the role that the route set; a header of any other value is no new label value."""
    return header if header in {keys.ROLE_STABLE, keys.ROLE_CANDIDATE} else keys.ROLE_DIRECT


class Metrics:
    """Counts decisions of one version.

    Every series exists from the start with the value 0: a rate over a series that first appears
    with the value 1 misses that first event.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, policy: str, version: int) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        decisions = Counter(
            keys.METRIC_DECISIONS,
            "Decisions that were made or failed: no bad requests, and nothing that was sent away.",
            _LABELS,
            registry=self._registry,
        )
        errors = Counter(
            keys.METRIC_DECISION_ERRORS,
            "Decisions that failed: the answer broke its schema, or the model raised.",
            (*_LABELS, "reason"),
            registry=self._registry,
        )
        seconds = Histogram(
            keys.METRIC_DECISION_SECONDS,
            "Time from a decision's request to its answer, waiting included, in seconds.",
            _LABELS,
            buckets=BUCKETS,
            registry=self._registry,
        )
        overloads = Counter(
            keys.METRIC_OVERLOADS,
            "Requests that were sent away since the queue was full: no fault of the version's.",
            _LABELS,
            registry=self._registry,
        )
        unseen = Counter(
            keys.METRIC_UNSEEN_CATEGORIES,
            "Features of decisions with a category that the training data did not have.",
            _LABELS,
            registry=self._registry,
        )
        unauthorized = Counter(
            keys.METRIC_UNAUTHORIZED,
            "Requests without a token of this policy's callers: answered with 401, no decisions.",
            _LABELS,
            registry=self._registry,
        )
        number = str(version)
        self._unauthorized = {role: unauthorized.labels(policy, number, role) for role in ROLES}
        self._overloads = {role: overloads.labels(policy, number, role) for role in ROLES}
        self._unseen = {role: unseen.labels(policy, number, role) for role in ROLES}
        self._decisions = {role: decisions.labels(policy, number, role) for role in ROLES}
        self._seconds = {role: seconds.labels(policy, number, role) for role in ROLES}
        self._errors = {
            (role, reason): errors.labels(policy, number, role, reason)
            for role in ROLES
            for reason in REASONS
        }

    def decided(self, role: str, seconds: float, failure: str | None) -> None:
        """Count one decision, made or failed."""
        self._decisions[role].inc()
        if failure is not None:
            self._errors[role, failure].inc()
        self._seconds[role].observe(seconds)

    def overloaded(self, role: str) -> None:
        """Count one request that was sent away."""
        self._overloads[role].inc()

    def unauthorized(self, role: str) -> None:
        """Count one request whose sender proved nothing."""
        self._unauthorized[role].inc()

    def unseen(self, role: str, count: int) -> None:
        """Count the features of one decision that had a category new to the policy."""
        self._unseen[role].inc(count)

    def text(self) -> bytes:
        """Return the exposition that Prometheus scrapes."""
        return generate_latest(self._registry)
