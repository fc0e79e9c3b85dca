"""What the engine tells of itself: who waits, how many are answered at once, how many tokens."""

from collections.abc import Callable, Sequence

from policy_api import keys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
KIND_PROMPT = "prompt"
KIND_ANSWER = "answer"


class EngineMetrics:
    """Counts by policy and version; tokens and callers that went away by role, too."""

    def __init__(
        self, registry: CollectorRegistry, policy: str, version: int, roles: Sequence[str]
    ) -> None:
        labels, number = ("policy", "version"), str(version)
        cancellations = Counter(
            keys.METRIC_CANCELLATIONS,
            "Requests whose callers went away before their answer: computed no further.",
            (*labels, "role"),
            registry=registry,
        )
        tokens = Counter(
            keys.METRIC_TOKENS,
            "Tokens of answers that were generated, and of what they answer.",
            (*labels, "role", "kind"),
            registry=registry,
        )
        waiting = Gauge(
            keys.METRIC_WAITING_DECISIONS,
            "Requests that wait until the model begins with them.",
            labels,
            registry=registry,
        )
        batch = Histogram(
            keys.METRIC_BATCH_SIZE,
            "Requests that one call of the model, or one step of a text model, works on.",
            labels,
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._cancellations = {role: cancellations.labels(policy, number, role) for role in roles}
        self._tokens = {
            (role, kind): tokens.labels(policy, number, role, kind)
            for role in roles
            for kind in (KIND_PROMPT, KIND_ANSWER)
        }
        self._waiting = waiting.labels(policy, number)
        self._batch = batch.labels(policy, number)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` at every scrape how many wait."""
        self._waiting.set_function(waiting)

    def batch(self, size: int) -> None:
        """Count one call of the model that works on so many requests."""
        self._batch.observe(size)

    def generated(self, role: str, prompt: int, answer: int) -> None:
        """Count the tokens of one answer, and of what it answers."""
        self._tokens[role, KIND_PROMPT].inc(prompt)
        self._tokens[role, KIND_ANSWER].inc(answer)

    def cancelled(self, role: str) -> None:
        """Count one caller that went away."""
        self._cancellations[role].inc()
