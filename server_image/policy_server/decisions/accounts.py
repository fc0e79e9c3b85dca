"""Counts and logs what came of requests, each once; never what was asked or answered."""

import logging

from policy_api.contract.artifact import PolicyManifest

from policy_server.decisions.results import Decision, Failure
from policy_server.metrics import REASON_SAFETY, Metrics

log = logging.getLogger("policy_server.decisions")


class Accounts:
    """Of one version."""

    def __init__(self, manifest: PolicyManifest, metrics: Metrics) -> None:
        self._manifest = manifest
        self._metrics = metrics

    def take(self, result: Decision | Failure) -> None:
        """Count and log a decision, made or failed."""
        self._count(result)
        self._log(result)

    def left(self, decision_id: str, role: str, seconds: float) -> None:
        """Count and log a caller that went away after so many seconds: no decision came of it."""
        self._metrics.engine.cancelled(role)
        fields = {"decisionId": decision_id, "role": role, "durationSeconds": round(seconds, 6)}
        log.info("cancelled", extra={"fields": fields})

    def _count(self, result: Decision | Failure) -> None:
        asked, role, reason = result.asked, result.asked.role, _reason(result)
        if isinstance(result, Failure) and reason is None:
            self._metrics.overloaded(role)
        else:
            self._metrics.decided(role, asked.seconds, reason)
        if reason == REASON_SAFETY:
            self._metrics.safety(role)
        if isinstance(result, Decision):
            answer = result.answer
            self._metrics.answered(
                role,
                answer.source,
                answer.cause,
                confidence=answer.chosen.confidence,
                auto_approved=answer.auto_approved,
            )
            if result.unseen:
                self._metrics.unseen(role, len(result.unseen))

    def _log(self, result: Decision | Failure) -> None:
        asked, reason = result.asked, _reason(result)
        fields = {
            "decisionId": asked.decision_id,
            "policy": self._manifest.policy,
            "version": self._manifest.version,
            "role": asked.role,
            "status": 200 if isinstance(result, Decision) else result.fault.status,
            "durationSeconds": round(asked.seconds, 6),
            "mode": asked.mode,
            "valid": reason is None and isinstance(result, Decision),
        }
        if isinstance(result, Decision):
            fields["source"] = result.answer.source
        if reason is not None:
            fields["reason"] = reason
        log.info("decision", extra={"fields": fields})


def _reason(result: Decision | Failure) -> str | None:
    """Return why the policy failed, as a metric's label; None: it did not, or was not asked."""
    return result.failed if isinstance(result, Decision) else result.fault.reason
