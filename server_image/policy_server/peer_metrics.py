"""Counts what other policies were asked: a second one after a decision, a reward model."""

from policy_api import keys
from prometheus_client import CollectorRegistry, Counter, Summary

TIMEOUT = "timeout"
UNREACHABLE = "unreachable"
REFUSED = "refused"  # it answered, but not with what was wanted
UNASKED = "unasked"  # nobody knows where it is, or there was nothing to ask it
ANSWERED = "answered"
QUEUE_FULL = "queue_full"
FAILURES = (TIMEOUT, UNREACHABLE, REFUSED, UNASKED)
_LABELS = ("policy", "version", "role")


class PeerMetrics:
    """Every series exists from the start with 0."""

    def __init__(
        self, registry: CollectorRegistry, policy: str, version: int, roles: tuple[str, ...]
    ) -> None:
        then = Counter(
            keys.METRIC_THEN,
            "Decisions after which a second policy was to be asked, by what came of it.",
            (*_LABELS, "result"),
            registry=registry,
        )
        score = Summary(
            keys.METRIC_ANSWER_SCORE,
            "Scores of answers, in the unit of the reward model that gave them.",
            _LABELS,
            registry=registry,
        )
        squares = Counter(
            keys.METRIC_ANSWER_SCORE_SQUARES,
            "Sum of the squares of these scores: with count and sum, their variance.",
            _LABELS,
            registry=registry,
        )
        dropped = Counter(
            keys.METRIC_ANSWER_SCORES_DROPPED,
            "Answers that were drawn to be scored and have no score, by why.",
            (*_LABELS, "reason"),
            registry=registry,
        )
        number = str(version)
        self._then = {
            (role, result): then.labels(policy, number, role, result)
            for role in roles
            for result in (ANSWERED, *FAILURES)
        }
        self._score = {role: score.labels(policy, number, role) for role in roles}
        self._squares = {role: squares.labels(policy, number, role) for role in roles}
        self._dropped = {
            (role, reason): dropped.labels(policy, number, role, reason)
            for role in roles
            for reason in (QUEUE_FULL, *FAILURES)
        }

    def then(self, role: str, result: str) -> None:
        """Count a decision after which a second policy was to be asked."""
        self._then[role, result].inc()

    def scored(self, role: str, score: float) -> None:
        """Count an answer's score."""
        self._score[role].observe(score)
        self._squares[role].inc(score * score)

    def dropped(self, role: str, reason: str) -> None:
        """Count an answer that was to be scored and is not."""
        self._dropped[role, reason].inc()
