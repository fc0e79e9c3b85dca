"""The paths of a policy server: which the route publishes, and which stay inside the cluster."""

from typing import Final

DECISIONS: Final = "/v1/decisions"  # and below it: one decision, its outcome
SCORES: Final = "/v1/scores"
FEEDBACK: Final = "/v1/feedback"
CHAT: Final = "/v1/chat/completions"

PUBLISHED: Final = (DECISIONS, SCORES, FEEDBACK, CHAT)
"""What callers need, each with all that is below it. The rest (/v1/policy, /metrics, /docs, probes)
tells of the version and its pod, and is asked for inside the cluster."""
