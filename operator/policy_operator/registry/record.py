"""What a PolicyVersion says of its fate in production: pure."""

from datetime import datetime

from policy_api import reasons
from policy_api.keys import COND_SERVING
from policy_api.rules.conditions import get_condition, set_condition
from policy_api.v1alpha1.version import PolicyVersionStatus

from policy_operator.registry.types import RecordServing


def recorded(
    status: PolicyVersionStatus, action: RecordServing, deployment: str, now: datetime
) -> PolicyVersionStatus:
    """Return the version's status with this deployment's word in it; others' stay."""
    serving = [s for s in status.serving if s.deployment != deployment]
    if action.serving is not None:
        serving.append(action.serving)
    serving.sort(key=lambda s: s.deployment)
    conditions = tuple(status.conditions)
    if action.rejected is not None:
        new = action.rejected
        conditions = set_condition(
            conditions,
            new.type,
            "True" if new.status == "True" else "False",
            new.reason,
            new.message,
            now=new.last_transition_time,
        )
    if serving:
        where = ", ".join(f"{s.role} in {s.deployment} ({s.weight} %)" for s in serving)
        conditions = set_condition(
            conditions, COND_SERVING, "True", reasons.SERVING, where, now=now
        )
    elif get_condition(conditions, COND_SERVING) is not None:
        conditions = set_condition(
            conditions,
            COND_SERVING,
            "False",
            reasons.NOT_SERVING,
            "no deployment serves it",
            now=now,
        )
    return status.model_copy(update={"serving": serving, "conditions": list(conditions)})
