"""An operator that takes over from the last landed version goes on where that one stopped."""

import copy
import json
from datetime import datetime

import landed
import pytest
from fixtures.landed.write import run_of
from policy_api import skew
from policy_api.contract.paths import PUBLISHED
from policy_api.keys import ANNOTATION_STOPPED_BY
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import PolicyTrainingStatus
from policy_operator.training.types import Training
from rollout_world import NAME, World
from training_world import Cluster, training


@pytest.mark.parametrize("name", landed.names("run"))
def test_an_older_trainer_takes_our_run(name):
    """What says no more than the landed version could is told to its trainers in its words."""
    fixture = landed.load(name)
    spec = skew.read(PolicyTrainingSpec, fixture["spec"])
    made = run_of(fixture["name"], spec)
    schema = landed.load("schemas/run")
    assert list(landed.refusals(made, schema, schema)) == []
    assert made == fixture["run"]


def taken_over(name: str) -> Cluster:
    """Return the world of a training, read by this operator."""
    fixture = landed.load(name)
    meta = training().meta.model_dump(mode="json", by_alias=True)
    obj = {"metadata": meta, "spec": fixture["spec"], "status": fixture["status"]}
    assert skew.examine(PolicyTrainingStatus, fixture["status"], "status")[1] is None
    return Cluster(
        Training.parse(json.loads(json.dumps(obj))),
        now=datetime.fromisoformat(fixture["now"]),
        jobs={int(index): job for index, job in fixture["jobs"].items()},
        pods={int(index): pods for index, pods in fixture["pods"].items()},
        complete={int(index) for index in fixture["jobs"]},
    )


@pytest.mark.parametrize("name", landed.names("trainings"))
def test_a_training_goes_on_and_nothing_is_started_or_stopped(name):
    cluster = taken_over(name)
    jobs, before = copy.deepcopy(cluster.jobs), cluster.training.status
    cluster.settle()
    for job in cluster.jobs.values():
        # That version did not mark the Jobs that it suspended; this one does, when it takes over.
        if job["metadata"].get("annotations", {}).pop(ANNOTATION_STOPPED_BY, None):
            del job["metadata"]["annotations"]
    assert (cluster.jobs, cluster.jobs_made, cluster.versions_made) == (jobs, [], [])
    after = cluster.training.status
    assert after.state == before.state
    for now, then in zip(after.attempts, before.attempts, strict=True):
        assert then.to_wire().items() <= now.to_wire().items(), "only what is new is added"
    assert (after.cost, after.finished_at) == (before.cost, before.finished_at)


def test_the_attempt_after_the_takeover_is_the_next_one():
    cluster = taken_over("trainings/Retrying").later(10)
    cluster.settle()
    assert cluster.jobs_made == [1]


def rollout(name: str) -> World:
    """Return the world of a rollout, read by this operator."""
    fixture = landed.load(name)
    world = World(versions=(), now=datetime.fromisoformat(fixture["now"]))
    world.cache.remove("PolicyDeployment", world.obj("PolicyDeployment", NAME))
    for obj in fixture["objects"]:
        world._put(copy.deepcopy(obj))
    spec, status = (world.obj("PolicyDeployment", NAME)[part] for part in ("spec", "status"))
    assert skew.examine(PolicyDeploymentSpec, spec, "spec")[1] is None
    assert skew.examine(PolicyDeploymentStatus, status, "status")[1] is None
    return world


@pytest.mark.parametrize("name", landed.names("deployments"))
def test_a_rollout_goes_on_and_no_weight_moves(name):
    world = rollout(name)
    split, servers, before = world.split(), world.servers(), world.status
    world.run()
    assert (world.split(), world.servers()) == (split, servers)
    for field in ("state", "stable", "candidate", "previous", "retiring", "rejected", "history"):
        assert world.status.get(field) == before.get(field), field


@pytest.mark.parametrize("name", landed.names("deployments"))
def test_what_the_route_publishes_changes_without_another_weight(name):
    """That version published everything, by one rule."""
    world = rollout(name)
    split = world.split()
    (match,) = world.obj("HTTPRoute", NAME)["spec"]["rules"][0]["matches"]
    assert match["path"]["value"] == "/"
    world.run()
    assert world.weights == [split]
    (rule,) = world.obj("HTTPRoute", NAME)["spec"]["rules"]
    assert [match["path"]["value"] for match in rule["matches"]] == list(PUBLISHED)


def test_the_rules_of_a_prefix_change_without_another_weight():
    world = rollout("deployments/Canary")
    spec = world.obj("PolicyDeployment", NAME)["spec"]
    world.edit(traffic={**spec["traffic"], "path": "/retain"})
    split = world.split()
    world.run()
    assert world.weights == [split]
    world.reconcile(world.alert(2))
    assert world.weights == [split, {1: 100, 2: 0}]
    assert len(world.obj("HTTPRoute", NAME)["spec"]["rules"]) == len(PUBLISHED)


def test_an_alert_after_the_takeover_sends_the_candidate_back():
    world = rollout("deployments/Canary")
    world.reconcile(world.alert(2))
    assert world.split() == {1: 100, 2: 0}
