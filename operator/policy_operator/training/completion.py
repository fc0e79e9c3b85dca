"""What becomes of a training whose attempt has completed: its exit criteria judge it. Pure."""

from policy_api import reasons
from policy_api.rules.criteria import evaluate, kept_metrics, listed, summary
from policy_api.v1alpha1.criteria import OnUnmet
from policy_api.v1alpha1.training_status import ArtifactStatus
from policy_api.v1alpha1.version import version_name

from policy_operator.training.refusals import refused
from policy_operator.training.status import TrainingState
from policy_operator.training.types import (
    Action,
    AttemptView,
    Decision,
    End,
    Observed,
    RecordVersion,
)


def completed(state: TrainingState, view: AttemptView, end: End, observed: Observed) -> Decision:
    """Judge the exit criteria and record the version."""
    report = end.report
    artifact = report.artifact if report is not None else None
    if report is None or artifact is None:  # outcome.completed() asks for both
        raise ValueError(f"attempt {view.index} completed without an artifact")
    spec = state.training.spec
    name = version_name(spec.policy, artifact.version)
    recorded = observed.version
    if recorded is not None and recorded.training.uid != state.training.meta.uid:
        message = (
            f"the trainer wrote version {artifact.version} to {artifact.uri}, but PolicyVersion "
            f"{name} records training {recorded.training.name}: two artifact stores for one "
            "policy? Run this training again under a new name"
        )
        return Decision(state.ended(False, reasons.VERSION_CONFLICT, message).status)
    if observed.refusal is not None:
        # Not recorded as ended: the next look finds the attempt completed again.
        before = list(state.training.status.attempts)
        state, again = refused(state.update(attempts=before), observed.refusal.message)
        return Decision(state.status, next_check_at=again)
    verdicts = evaluate(spec.exit_criteria, report.metrics)
    met = all(v.met for v in verdicts)
    state = state.update(
        version=artifact.version,
        artifact=ArtifactStatus(uri=artifact.uri, sha256=artifact.sha256),
        exit_criteria=listed(verdicts),
    )
    actions: tuple[Action, ...] = ()
    if recorded is None or not recorded.judged:
        parent = parent_version(spec.policy, view.base_version)
        metrics = kept_metrics(spec.exit_criteria, report.metrics)
        actions = (RecordVersion(report, verdicts, metrics, parent),)
    message = f"version {artifact.version}: {summary(verdicts)}"
    kept = not met and spec.on_unmet is OnUnmet.KEEP
    if kept:
        message += "; kept, never deployed (onUnmet: Keep)"
    reason = reasons.SUCCEEDED if met else reasons.KEPT if kept else reasons.EXIT_CRITERIA_UNMET
    return Decision(state.ended(met or kept, reason, message).status, actions=actions)


def parent_version(policy: str, base: str | None) -> int | None:
    """Return the number in a PolicyVersion's name if it is of the same policy."""
    prefix = f"{policy}-v"
    if base is None or not base.startswith(prefix) or not base[len(prefix) :].isdecimal():
        return None
    return int(base[len(prefix) :])
