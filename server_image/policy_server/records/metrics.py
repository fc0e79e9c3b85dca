"""What came of decisions, and how the log itself is."""

from policy_api import keys
from policy_records.entries import Label, News
from prometheus_client import CollectorRegistry, Counter, Gauge

_DECIDED = ("policy", "version", "role")
NEITHER = "Neither"
"""Label of feedback that is neither Positive nor Negative."""
_BOOLEANS = ("true", "false")


class LogMetrics:
    """Counts news of decisions for the version that decided, whichever pod hears of them.

    A reward may be negative, and a sum that falls is no counter: what was gained and what was lost
    are counted apart, so that a mean and a variance survive restarts of pods.
    """

    def __init__(self, registry: CollectorRegistry, policy: str, version: int) -> None:
        """Make the series of the version that serves here; those of others come when they do."""
        own = ("policy", "version")
        queue = Gauge(
            keys.METRIC_LOG_QUEUE,
            "Entries of the decision log that wait in memory to be written.",
            own,
            registry=registry,
        )
        spool = Gauge(
            keys.METRIC_LOG_SPOOL,
            "Bytes of the decision log on the pod's disk, while the database is away.",
            own,
            registry=registry,
        )
        dropped = Counter(
            keys.METRIC_LOG_DROPPED,
            "Decisions that are in no log: neither the database nor the pod's disk took them.",
            own,
            registry=registry,
        )
        self._queue = queue.labels(policy, str(version))
        self._spool = spool.labels(policy, str(version))
        self._dropped = dropped.labels(policy, str(version))
        self._rewards = Counter(
            keys.METRIC_REWARDS, "Decisions that got a reward.", _DECIDED, registry=registry
        )
        self._gained = Counter(
            keys.METRIC_REWARD_GAINED,
            "Sum of the rewards above 0: a mean is (gained - lost) / rewards.",
            _DECIDED,
            registry=registry,
        )
        self._lost = Counter(
            keys.METRIC_REWARD_LOST,
            "Sum of what the rewards below 0 lack to 0.",
            _DECIDED,
            registry=registry,
        )
        self._squares = Counter(
            keys.METRIC_REWARD_SQUARES, "Sum of the rewards' squares.", _DECIDED, registry=registry
        )
        self._outcomes = Counter(
            keys.METRIC_OUTCOMES,
            "Decisions of which it is known whether they succeeded.",
            (*_DECIDED, "success"),
            registry=registry,
        )
        self._followed = Counter(
            keys.METRIC_FOLLOWED,
            "Decisions of which it is known whether they were followed.",
            (*_DECIDED, "followed"),
            registry=registry,
        )
        self._feedback = Counter(
            keys.METRIC_FEEDBACK,
            "Words of people on decisions, by what they come to.",
            (*_DECIDED, "label"),
            registry=registry,
        )
        self._overrides = Counter(
            keys.METRIC_OVERRIDES,
            "Words of people that name another action than the decision's.",
            _DECIDED,
            registry=registry,
        )
        for role in (keys.ROLE_STABLE, keys.ROLE_CANDIDATE, keys.ROLE_DIRECT):
            self._begin(policy, str(version), role)

    def _begin(self, *decided: str) -> None:
        for counter in (
            self._rewards,
            self._gained,
            self._lost,
            self._squares,
            self._overrides,
        ):
            counter.labels(*decided)
        for value in _BOOLEANS:
            self._outcomes.labels(*decided, value)
            self._followed.labels(*decided, value)
        for label in (*Label, NEITHER):
            self._feedback.labels(*decided, label)

    def heard(self, news: News) -> None:
        """Count what is new of a decision."""
        decided = (news.policy, str(news.version), news.role)
        if news.reward is not None:
            self._rewards.labels(*decided).inc()
            self._gained.labels(*decided).inc(max(0.0, news.reward))
            self._lost.labels(*decided).inc(max(0.0, -news.reward))
            self._squares.labels(*decided).inc(news.reward**2)
        if news.success is not None:
            self._outcomes.labels(*decided, _said(news.success)).inc()
        if news.followed is not None:
            self._followed.labels(*decided, _said(news.followed)).inc()
        if news.feedback:
            self._feedback.labels(*decided, news.label or NEITHER).inc()
        if news.overridden:
            self._overrides.labels(*decided).inc()

    def state(self, waiting: int, spooled: int) -> None:
        """Tell how many entries wait, and how many bytes are on the disk."""
        self._queue.set(waiting)
        self._spool.set(spooled)

    def dropped(self, count: int) -> None:
        """Count decisions that are lost."""
        self._dropped.inc(count)


def _said(value: bool) -> str:
    return "true" if value else "false"
