"""Which version should serve, and why not if it can't."""

from dataclasses import dataclass

from policy_api import reasons
from policy_api.keys import ANNOTATION_RETRY
from policy_api.v1alpha1.deployment import RejectedVersion
from policy_api.v1alpha1.version import version_name

from policy_operator.rollout.types import Observed, PolicyDeployment


@dataclass(frozen=True)
class Target:
    """The version that spec.target stands for."""

    version: int | None = None
    """Its number as far as one is known, also when it is refused."""
    refused: str | None = None
    """Why it can't be rolled out, as a reason; None: it can."""
    message: str = ""
    waiting: bool = False
    """Refused for now: it may come by itself (a training that still runs)."""


def _from_training(pdep: PolicyDeployment, observed: Observed, name: str) -> Target:
    """Find the version that a training made; the record outlives the training."""
    training = observed.training
    if training is None:
        made = [v.version for v in observed.versions.values() if v.training.name == name]
        if made:
            return Target(max(made))
        return Target(
            refused=reasons.TARGET_NOT_FOUND,
            message=f"there is no PolicyTraining {name} and no version that it made",
        )
    if training.policy != pdep.spec.policy:
        return Target(
            refused=reasons.TARGET_INVALID,
            message=f"PolicyTraining {name} trains policy {training.policy}, "
            f"this deploys {pdep.spec.policy}",
        )
    verdict = training.succeeded
    if verdict is not None and verdict.status == "False":
        return Target(
            refused=reasons.TARGET_NOT_ACCEPTED,
            message=f"PolicyTraining {name} failed: {verdict.reason}: {verdict.message}",
        )
    if verdict is None or verdict.status != "True" or training.version is None:
        return Target(
            refused=reasons.WAITING_FOR_TRAINING,
            message=f"PolicyTraining {name} has not finished",
            waiting=True,
        )
    return Target(training.version)


def resolve(  # noqa: PLR0911 - each return is one rule
    pdep: PolicyDeployment,
    observed: Observed,
    rejected: tuple[RejectedVersion, ...],
    retried: int | None,
) -> Target:
    """Return the target, refused unless it is a version that was accepted and not rejected.

    Args:
        pdep: The resource.
        observed: Versions and the training.
        rejected: What was rolled back here.
        retried: A version whose rejection a person lifted just now.
    """
    named = pdep.spec.target
    if named.training is not None:
        found = _from_training(pdep, observed, named.training.name)
    else:
        found = Target(named.version)
    if found.refused is not None or found.version is None:
        return found
    version = found.version
    name = version_name(pdep.spec.policy, version)
    record = observed.versions.get(version)
    if record is None:
        return Target(
            version, reasons.TARGET_NOT_FOUND, f"there is no PolicyVersion {name}", waiting=True
        )
    stable = pdep.status.stable
    if stable is not None and stable.version == version:
        return found  # it serves already: nothing to roll out, nothing to refuse
    if not record.accepted:
        return Target(
            version,
            reasons.TARGET_NOT_ACCEPTED,
            f"{name} was not accepted by its training's exit criteria",
        )
    how = f"set another target, or {ANNOTATION_RETRY}: {version}"
    here = next((r for r in rejected if r.version == version), None)
    if here is not None:
        return Target(
            version, reasons.ROLLED_BACK, f"target v{version} was rejected: {here.reason}; {how}"
        )
    if record.rejected is not None and retried != version:
        return Target(
            version,
            reasons.TARGET_REJECTED,
            f"target v{version} was rejected: {record.rejected.message}; {how}",
        )
    return found
