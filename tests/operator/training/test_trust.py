"""Attempts that run are given a new CA; what has ended, and what is not ours, is left alone."""

from types import SimpleNamespace

import pytest
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import ApiError, NotFound
from policy_operator.settings import Settings
from policy_operator.training import build, trust
from training_world import COMPLETE, training

PLAN = build.Plan(index=0, min_version=1, dependencies={}, ca="old")


def children(index=0, **changes):
    """Return an attempt's ConfigMap and Job as the API server has them."""
    plan = build.Plan(index=index, min_version=1, dependencies={}, ca="old")
    made = build.config_map(training(), plan, Settings())
    made["metadata"] |= {"uid": f"cm-{index}", "resourceVersion": "1"}
    job = build.job(training(), plan, Settings())
    job["metadata"] |= {"uid": f"job-{index}", "resourceVersion": "1"}
    job["status"] = {"conditions": changes.get("conditions", [])}
    return made, job


def names(config_maps):
    return [c["metadata"]["name"] for c in config_maps]


def test_only_what_runs_and_has_other_certificates_is_outdated():
    running, its_job = children(0)
    over, ended_job = children(1, conditions=[COMPLETE])
    maps, jobs = [running, over], [its_job, ended_job]
    assert names(trust.outdated(maps, jobs, "old\nnew")) == ["sft-0"]
    assert names(trust.outdated(maps, jobs, "old")) == []
    assert names(trust.outdated(maps, [ended_job], "new")) == []


def test_a_config_map_of_anybody_else_is_left_alone():
    config_map, job = children(0)
    for owner in (
        [],
        [{"kind": "PolicyTraining", "uid": "another", "controller": True}],
        [{"kind": "PolicyDeployment", "uid": "t-uid", "controller": True}],
    ):
        meta = {**config_map["metadata"], "ownerReferences": owner}
        assert trust.outdated([{**config_map, "metadata": meta}], [job], "new") == []
    ledger = {**config_map, "data": {"highestVersion": "3"}}
    assert trust.outdated([ledger], [job], "new") == []


class Kube:
    """Answers patches."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.patches = []

    async def merge_patch(self, kind, namespace, name, patch):
        self.patches.append((kind, namespace, name, patch))
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error


@pytest.mark.parametrize(
    ("errors", "complete"),
    [
        ((), True),
        ((NotFound(404, "NotFound", "gone", "PATCH"),), True),
        ((ApiError(403, "Forbidden", "a policy", "PATCH"),), False),
    ],
)
async def test_they_are_written_one_and_all(errors, complete):
    cache = Cache()
    for index in (0, 1):
        config_map, job = children(index)
        cache.put("ConfigMap", config_map)
        cache.put("Job", job)
    kube = Kube(*errors)
    assert await trust.refresh(SimpleNamespace(cache=cache, kube=kube), "old\nnew") is complete
    assert kube.patches == [
        (
            "ConfigMap",
            "ml",
            f"sft-{index}",
            {"metadata": {"uid": f"cm-{index}"}, "data": {"ca.crt": "old\nnew"}},
        )
        for index in (0, 1)
    ]
