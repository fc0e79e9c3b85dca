"""The server's metrics, on a registry of their own; names and labels are the API's."""

from policy_api import keys
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

ROLES = (keys.ROLE_STABLE, keys.ROLE_CANDIDATE, keys.ROLE_DIRECT)
REASON_ANSWER_SCHEMA = "answer_schema"
REASON_ENGINE = "engine"
REASON_SAFETY = "safety"
REASON_TIMEOUT = "timeout"
REASONS = (REASON_ANSWER_SCHEMA, REASON_ENGINE, REASON_SAFETY, REASON_TIMEOUT)
REASON_CONFIDENCE = "confidence"  # why the baseline answered although the policy did not fail
SOURCE_POLICY = "policy"
SOURCE_BASELINE = "baseline"
SOURCES = (SOURCE_POLICY, SOURCE_BASELINE)
# Seconds. From one token of a small model to a long answer of a large one; 0.5 is there since it is
# the usual latency promise, and a quantile near a bound is exact.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10, 30)
# Of a confidence, from 0 to 1: finer where thresholds of approval are.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1)
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
            "Decisions that the policy failed, also where its baseline answered instead.",
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
        self._answers = AnswerMetrics(self._registry, policy, version)
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

    def safety(self, role: str) -> None:
        """Count one answer that was withheld since a pattern forbids it."""
        self._answers.safety[role].inc()

    def answered(
        self,
        role: str,
        source: str,
        cause: str | None,
        *,
        confidence: float | None,
        auto_approved: bool | None,
    ) -> None:
        """Count what was answered to one decision; see AnswerMetrics."""
        self._answers.count(role, source, cause, confidence, approved=bool(auto_approved))

    def config_refused(self) -> None:
        """Count one file that can't be read, or that asks for what this version can't do."""
        self._answers.config_errors.inc()

    def unseen(self, role: str, count: int) -> None:
        """Count the features of one decision that had a category new to the policy."""
        self._unseen[role].inc(count)

    def text(self) -> bytes:
        """Return the exposition that Prometheus scrapes."""
        return generate_latest(self._registry)


class AnswerMetrics:
    """Counts what was answered, and by whom: not all answers are the policy's own."""

    def __init__(self, registry: CollectorRegistry, policy: str, version: int) -> None:
        answers = Counter(
            keys.METRIC_ANSWERS,
            "Decisions that were answered, by source: the policy, or its baseline.",
            (*_LABELS, "source"),
            registry=registry,
        )
        instead = Counter(
            keys.METRIC_BASELINE_ANSWERS,
            "Answers of the baseline, by why: the policy failed, or was not sure enough.",
            (*_LABELS, "reason"),
            registry=registry,
        )
        approved = Counter(
            keys.METRIC_AUTO_APPROVED,
            "Decisions that needed no person, by autoApprove.",
            _LABELS,
            registry=registry,
        )
        confidence = Histogram(
            keys.METRIC_CONFIDENCE,
            "Confidence of what was answered, from 0 to 1, where it is known.",
            _LABELS,
            buckets=CONFIDENCE_BUCKETS,
            registry=registry,
        )
        safety = Counter(
            keys.METRIC_SAFETY_VIOLATIONS,
            "Answers of the policy that were withheld: a forbidden pattern was found in them.",
            _LABELS,
            registry=registry,
        )
        errors = Counter(
            keys.METRIC_SERVING_CONFIG_ERRORS,
            "Changes of serving.json that could not be read or that this version can't do.",
            ("policy", "version"),
            registry=registry,
        )
        number = str(version)
        self._sources = {
            (role, source): answers.labels(policy, number, role, source)
            for role in ROLES
            for source in SOURCES
        }
        self._instead = {
            (role, reason): instead.labels(policy, number, role, reason)
            for role in ROLES
            for reason in (*REASONS, REASON_CONFIDENCE)
        }
        self._approved = {role: approved.labels(policy, number, role) for role in ROLES}
        self._confidence = {role: confidence.labels(policy, number, role) for role in ROLES}
        self.safety = {role: safety.labels(policy, number, role) for role in ROLES}
        """By role."""
        self.config_errors = errors.labels(policy, number)

    def count(
        self,
        role: str,
        source: str,
        cause: str | None,
        confidence: float | None,
        *,
        approved: bool,
    ) -> None:
        """Count one answer.

        Args:
            role: Under which it was asked for.
            source: One of SOURCES.
            cause: Why the baseline answered; None: the policy did.
            confidence: Of what was answered, if it is known.
            approved: It needs no person.
        """
        self._sources[role, source].inc()
        if cause is not None:
            self._instead[role, cause].inc()
        if confidence is not None:
            self._confidence[role].observe(confidence)
        if approved:
            self._approved[role].inc()
