"""Why a Job waits that somebody else has suspended: Kueue says so on the Job's Workload."""

from http import HTTPStatus

from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.kube import Kube
from policy_operator.machinery.resources import RESOURCES

_JOB_UID = "kueue.x-k8s.io/job-uid"  # label that Kueue puts on a Job's Workload
# What holds a Workload, the most telling first: (type, status) of its conditions.
_HOLDS = (("QuotaReserved", "False"), ("Evicted", "True"), ("Admitted", "False"))


async def why_suspended(kube: Kube, job: Obj) -> str:
    """Return what Kueue says of a Job; empty where there is no Kueue, or it says nothing.

    Raises:
        ApiError, OSError, TimeoutError: a call failed; to be tried again.
    """
    resource, meta = RESOURCES["Workload"], job["metadata"]
    try:
        if not await kube.has_api(resource.group, resource.version, resource.plural):
            return ""
        found = await kube.list("Workload", meta["namespace"], {_JOB_UID: meta["uid"]})
    except ApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return ""  # a cluster with roles of its own: the Job's word is enough
        raise
    return workload_says(found[0]) if found else ""


def workload_says(workload: Obj) -> str:
    """Return why a Workload is not admitted, in Kueue's words."""
    conditions = (workload.get("status") or {}).get("conditions") or ()
    by_type = {(c["type"], c["status"]): c.get("message") or "" for c in conditions}
    said = next((message for hold in _HOLDS if (message := by_type.get(hold))), "")
    return f"Kueue: {said}" if said else ""
