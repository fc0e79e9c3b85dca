"""A PolicyVersion as decisions see it, and what they have recorded on one."""

from dataclasses import dataclass, field

from policy_api import skew
from policy_api.base import Condition
from policy_api.keys import COND_ACCEPTED, COND_REJECTED
from policy_api.rules.conditions import get_condition, is_true
from policy_api.v1alpha1.version import (
    PolicyVersionSpec,
    PolicyVersionStatus,
    ServingAt,
    TrainingOrigin,
    VersionArtifact,
)

from policy_operator.machinery.cache import Obj


@dataclass(frozen=True)
class VersionRecord:
    """A PolicyVersion."""

    version: int
    artifact: VersionArtifact
    training: TrainingOrigin
    status: PolicyVersionStatus = field(default_factory=PolicyVersionStatus)

    @staticmethod
    def parse(obj: Obj) -> "VersionRecord":
        """Read the object, whichever version of the operator made it."""
        spec = skew.read(PolicyVersionSpec, obj["spec"])
        return VersionRecord(
            version=spec.version,
            artifact=spec.artifact,
            training=spec.training,
            status=skew.read(PolicyVersionStatus, obj.get("status") or {}),
        )

    @property
    def judged(self) -> bool:
        """Whether it has its verdict, the condition Accepted."""
        return get_condition(self.status.conditions, COND_ACCEPTED) is not None

    @property
    def accepted(self) -> bool:
        """Whether its exit criteria accepted it."""
        return is_true(self.status.conditions, COND_ACCEPTED)

    @property
    def rejected(self) -> Condition | None:
        """The condition Rejected if it is True."""
        found = get_condition(self.status.conditions, COND_REJECTED)
        return found if found is not None and found.status == "True" else None


@dataclass(frozen=True)
class RecordServing:
    """Write on a PolicyVersion what became of it in a deployment."""

    version: int
    serving: ServingAt | None
    """Where it serves in this deployment; None: not."""
    rejected: Condition | None = None
    """The condition Rejected to set; None: leave it."""
