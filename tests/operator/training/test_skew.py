"""An upgrade of the operator, or its way back, never kills a training nor changes what it is."""

from dataclasses import dataclass, field, replace

import pytest
from policy_api import __version__
from policy_operator.machinery.cache import Cache
from policy_operator.settings import Settings
from policy_operator.training import build, dependencies
from policy_operator.training.observe import image
from policy_operator.training.types import CompleteAttempt, Observed, StartAttempt, StopJob, Waiting
from training_world import SPEC, T0, Cluster, done, ended, report, started, status_of, training

OLD, NEW = Settings(trainer_image="trainer:1"), Settings(trainer_image="trainer:2")
UNKNOWN = "spec.sft.neftune"
WAITS = (
    f"{UNKNOWN} is unknown to this operator (version {__version__}): upgrade the operator, or "
    "remove it"
)


def newer(cluster: Cluster) -> Cluster:
    """Let the spec say what this operator does not know."""
    cluster.training = replace(cluster.training, unknown=UNKNOWN)
    return cluster


def upgraded(cluster: Cluster) -> Cluster:
    """Let an operator read it that knows the field."""
    cluster.training = replace(cluster.training, unknown=None)
    return cluster


def parsed(status=None, **spec):
    meta = {"name": "sft", "namespace": "ml", "uid": "t-uid", "generation": 1}
    status = status or {"conditions": [], "crashes": 3, "state": "Training"}
    return type(training()).parse({"metadata": meta, "spec": {**SPEC, **spec}, "status": status})


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        ({}, None),
        ({"sft": {"neftune": 5}}, UNKNOWN),
        ({"recipe": "KTO", "kto": {}}, "spec.kto"),
        ({"recipe": "KTO"}, "spec.recipe 'KTO'"),
    ],
)
def test_an_object_of_a_newer_crd_is_read(spec, unknown):
    read = parsed(**spec)
    assert read.unknown == unknown
    assert (read.spec.policy, read.status.state) == ("forge", "Training")


def test_a_limit_that_an_upgrade_narrowed_holds_up_only_what_has_not_started():
    attempts = [{"index": 0, "job": "sft-0"}]
    assert parsed(maxRetries=1000).unknown == "spec.maxRetries 1000"
    running = parsed(status={"attempts": attempts}, maxRetries=1000)
    assert (running.unknown, running.spec.max_retries) == (None, 1000)
    assert parsed(status={"attempts": attempts}, sft={"neftune": 5}).unknown == UNKNOWN


def test_a_training_that_has_not_started_waits_and_says_why():
    cluster = newer(Cluster(training()))
    decision = cluster.settle()
    assert cluster.jobs_made == []
    assert decision.actions == ()
    assert status_of(cluster) == ("Unknown", "UnknownField", WAITS)
    assert [(e.type, e.reason, e.message) for e in cluster.events] == [
        ("Warning", "UnknownField", WAITS)
    ]
    upgraded(cluster).settle()
    assert cluster.jobs_made == [0]


def test_one_that_runs_goes_on_and_its_verdict_waits():
    cluster = newer(started())
    cluster.settle()
    assert cluster.training.status.state == "Training"
    cluster.later(60).end(0, ended(message=done(1)), failed=False)
    decision = cluster.settle()
    assert decision.actions == ()
    assert cluster.versions_made == []
    assert status_of(cluster) == (
        "Unknown",
        "UnknownField",
        f"the training has ended and is not judged: {WAITS}",
    )
    cluster.later(3600)
    cluster.settle()
    upgraded(cluster).settle()
    assert cluster.versions_made == [1]
    assert status_of(cluster)[0] == "True"
    assert cluster.training.status.attempts[0].run_seconds == 60, "the wait is not counted"


@pytest.mark.parametrize("outcome", ["TrainerFailed", "Preempted"])
def test_no_new_attempt_starts_without_the_field(outcome):
    cluster = newer(started())
    code = {"TrainerFailed": 70, "Preempted": 75}[outcome]
    cluster.end(0, ended(code=code, message=report(outcome)), failed=True)
    cluster.later(3600).settle()
    assert cluster.jobs_made == [0]
    assert status_of(cluster)[1:] == ("UnknownField", WAITS)
    upgraded(cluster).settle()
    assert cluster.jobs_made == [0, 1]


def test_a_job_whose_config_is_not_written_yet_waits_for_who_knows_the_field():
    cluster = Cluster(training())
    cluster.step()
    decision = newer(cluster).settle()
    assert decision.actions == ()
    assert cluster.complete == set()
    assert status_of(cluster)[1:] == ("UnknownField", WAITS)
    upgraded(cluster).settle()
    assert cluster.complete == {0}


@pytest.mark.parametrize(
    "spec", [{"suspend": True}, {"activeDeadlineSeconds": 10}, {"budget": {"maxGPUHours": 1e-9}}]
)
def test_suspend_deadline_and_budget_still_stop_it(spec):
    compute = {"gpusPerNode": 1}
    cluster = newer(started(compute=compute))
    spec = training(compute=compute, **spec).spec
    cluster.training = replace(cluster.training, spec=spec)
    decision = cluster.later(20).decide()
    assert [type(a) for a in decision.actions] == [StopJob]


def test_one_that_waits_for_it_is_not_stopped_by_what_it_says():
    """Another training's object is read too, and must not fail the reconcile of this one."""
    cache = Cache()
    other = {
        "metadata": {"name": "first", "namespace": "ml", "uid": "o", "resourceVersion": "1"},
        "spec": {**SPEC, "recipe": "KTO", "kto": {}},
        "status": {"state": "Training", "novel": {"x": 1}},
    }
    assert cache.put("PolicyTraining", other)
    found = dependencies.find(cache, training(base={"training": {"name": "first"}}), {})
    assert found == {"base": Waiting("waits for PolicyTraining first, which is Training", "o")}


@dataclass
class Upgrades(Cluster):
    """A cluster that keeps each Job as the operator's settings made it."""

    settings: Settings = OLD
    made: dict[int, dict] = field(default_factory=dict)
    configs: dict[int, str] = field(default_factory=dict)

    def observe(self) -> Observed:
        newest = self.made[max(self.made)] if self.made else None
        return replace(super().observe(), trainer_image=newest and image(newest))

    def apply(self, action, decision) -> None:
        if isinstance(action, StartAttempt | CompleteAttempt):
            plan = build.Plan(action.index, 1, {}, "ca", image=action.image)
            if isinstance(action, StartAttempt):
                self.made[action.index] = build.job(self.training, plan, self.settings)
            else:
                config = build.run_config(self.training, plan, self.settings)
                self.configs[action.index] = config.trainer_image
        super().apply(action, decision)

    def crash(self, index: int) -> None:
        self.end(index, ended(code=70, message=report("TrainerFailed")), failed=True)
        self.later(10).settle()

    @property
    def images(self) -> list[str]:
        return [image(self.made[index]) for index in sorted(self.made)]


def test_an_upgrade_does_not_change_the_trainer_image_of_a_training_that_ran():
    cluster = Upgrades(training())
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    assert cluster.training.status.trainer_image == "trainer:1"
    cluster.settings = NEW
    cluster.crash(0)
    cluster.run(1)
    cluster.settle()
    cluster.crash(1)
    assert cluster.images == ["trainer:1", "trainer:1", "trainer:1"]
    assert cluster.configs == {0: "trainer:1", 1: "trainer:1", 2: "trainer:1"}


def test_it_is_kept_for_a_training_that_a_former_operator_started():
    """Neither its status nor an older CRD, which prunes the field, says which image it was."""
    cluster = Upgrades(training())
    cluster.settle()
    cluster.run(0)
    cluster.settle()
    bare = cluster.training.status.model_copy(update={"trainer_image": None})
    cluster.training = replace(cluster.training, status=bare)
    cluster.settings = NEW
    cluster.crash(0)
    assert cluster.images == ["trainer:1", "trainer:1"]


def test_an_image_that_never_ran_is_no_promise():
    cluster = Upgrades(training())
    cluster.settle()
    assert cluster.training.status.trainer_image is None
    cluster.settings = NEW
    del cluster.jobs[0]
    cluster.settle()
    assert cluster.images == ["trainer:1", "trainer:2"]


def test_a_config_says_the_image_of_its_own_job():
    cluster = Upgrades(training())
    cluster.step()
    cluster.settings = NEW
    cluster.settle()
    assert cluster.configs == {0: "trainer:1"}
    assert cluster.now == T0
