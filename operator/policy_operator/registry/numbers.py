"""Numbers of versions: counted up for each policy, never given twice.

A number is *reserved* when a training's first Job is made (a label on the Job), *claimed* by the
trainer with an exclusive folder in the artifact store (which may be a later number), and *recorded*
by the PolicyVersion `<policy>-v<N>`, whose name the API server grants once. A ConfigMap remembers
the highest recorded number, so that deleting a PolicyVersion does not free its number.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from policy_api.keys import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_POLICY, LABEL_VERSION
from policy_api.v1alpha1.version import version_name

from policy_operator.children import labelled
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.kube import Kube
from policy_operator.ownership import keep

LEDGER_KEY = "highestVersion"


def ledger_name(policy: str) -> str:
    """Return the name of the ConfigMap that remembers a policy's highest version."""
    return f"{policy}-versions"


def ledger_labels(policy: str) -> dict[str, str]:
    """Return the labels by which we know a policy's ledger as ours."""
    return {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_POLICY: policy}


def ledger(namespace: str, policy: str, highest: int) -> Obj:
    """Return that ConfigMap. It has no owner: the policy outlives every training."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ledger_name(policy),
            "namespace": namespace,
            "labels": ledger_labels(policy),
        },
        "data": {LEDGER_KEY: str(highest)},
    }


def label_number(obj: Obj) -> int:
    """Return the number in an object's version label; 0 when there is none."""
    text = (obj["metadata"].get("labels") or {}).get(LABEL_VERSION, "")
    return int(text) if text.isdecimal() else 0


def recorded_number(config_map: Obj | None) -> int:
    """Return the highest number that the ledger remembers; 0 for a new policy."""
    text = ((config_map or {}).get("data") or {}).get(LEDGER_KEY, "")
    return int(text) if text.isdecimal() else 0


def first_free(
    versions: Iterable[Obj], jobs: Iterable[Obj], remembered: int, reserved: Iterable[int]
) -> int:
    """Return the first number that nobody has recorded or reserved.

    Args:
        versions: PolicyVersions of the policy.
        jobs: Jobs of its trainings; their label reserves a number.
        remembered: The ledger's highest number.
        reserved: Numbers given out by this process, whose Jobs the cache may not show yet.
    """
    used = [remembered, *reserved]
    used += [int(v["spec"]["version"]) for v in versions]
    used += [label_number(j) for j in jobs]
    return 1 + max(used)


class Numbers:
    """Gives numbers out; one process (the leader) does so."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._reserved: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self._recording: dict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def reserve(self, namespace: str, policy: str, training_uid: str) -> int:
        """Reserve a number for a training; the same one when it asks again.

        It awaits nothing between reading and reserving, so no two callers get the same. Jobs are
        looked at once: the later ones reserve what was given out here.
        """
        reserved = self._reserved[namespace, policy]
        if training_uid not in reserved:
            ours = {LABEL_POLICY: policy}
            reserved[training_uid] = first_free(
                self._cache.list("PolicyVersion", namespace, ours),
                [] if reserved else self._cache.list("Job", namespace, ours),
                recorded_number(self._ledger(namespace, policy)),
                reserved.values(),
            )
            # A version that a person recorded by hand may lack the label; its name is what counts.
            while self._cache.get(
                "PolicyVersion", namespace, version_name(policy, reserved[training_uid])
            ):
                reserved[training_uid] += 1
        return reserved[training_uid]

    def _ledger(self, namespace: str, policy: str) -> Obj | None:
        """Return the policy's ledger as the cache has it; somebody else's ConfigMap is none."""
        known = self._cache.get("ConfigMap", namespace, ledger_name(policy))
        return known if known is not None and labelled(known, ledger_labels(policy)) else None

    async def remember(self, kube: Kube, namespace: str, policy: str, number: int) -> None:
        """Write the number into the ledger, if it is the highest yet.

        Raises:
            Taken: a ConfigMap of the ledger's name is not ours.
            ApiError, OSError, TimeoutError: the write failed.
        """
        async with self._recording[namespace, policy]:
            await keep(
                kube,
                ledger(namespace, policy, number),
                self._ledger(namespace, policy),
                lambda found: recorded_number(found) >= number,
            )
