"""The CA in the ConfigMaps of attempts that run: the kubelet brings what changes into the pods."""

import logging
from collections.abc import Iterable

from policy_api.contract.environment import CA_FILE, RUN_FILE
from policy_api.keys import KIND_TRAINING

from policy_operator.children import controller
from policy_operator.context import Context
from policy_operator.machinery.cache import Obj, object_id
from policy_operator.machinery.errors import ApiError, NotFound
from policy_operator.training.outcome import job_finished

log = logging.getLogger(__name__)


def outdated(config_maps: Iterable[Obj], jobs: Iterable[Obj], ca: str) -> list[Obj]:
    """Return the ConfigMaps of running attempts that have other certificates than these. Pure.

    Args:
        config_maps: All that are ours.
        jobs: All that are ours.
        ca: What clients are to trust.
    """
    running = {object_id(j): controller(j) for j in jobs if job_finished(j) is None}
    found = []
    for config_map in config_maps:
        data, owner = config_map.get("data") or {}, controller(config_map)
        if RUN_FILE not in data or data.get(CA_FILE) == ca:
            continue
        # The Job has its name and its owner; a ConfigMap of a training that is gone goes with it.
        of_job = running.get(object_id(config_map))
        if owner is None or of_job is None or owner["kind"] != KIND_TRAINING:
            continue
        if owner["uid"] == of_job["uid"]:
            found.append(config_map)
    return found


async def refresh(ctx: Context, ca: str) -> bool:
    """Write the certificates where they are missing.

    Returns:
        Whether every running attempt has them now.

    Raises:
        OSError, TimeoutError: the API server could not be reached.
    """
    complete = True
    cache = ctx.cache
    for config_map in outdated(cache.list("ConfigMap"), cache.list("Job"), ca):
        namespace, name = object_id(config_map)
        # With another uid it is another object, which the API server then refuses to change.
        meta = {"uid": config_map["metadata"]["uid"]}
        try:
            await ctx.kube.merge_patch(
                "ConfigMap", namespace, name, {"metadata": meta, "data": {CA_FILE: ca}}
            )
        except NotFound:
            continue
        except ApiError as error:
            complete = False
            log.warning("ConfigMap %s/%s does not get the new CA: %s", namespace, name, error)
    return complete
