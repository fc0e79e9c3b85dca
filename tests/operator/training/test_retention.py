"""When a failed training's checkpoints go, and what a run is told about those of others."""

from datetime import timedelta

import pytest
from policy_operator.training import build, retention
from policy_operator.training.types import DeleteChild, RemoveCheckpoints
from training_world import (
    COMPLETE,
    FAILED,
    SETTINGS,
    T0,
    change,
    condition,
    done,
    ended,
    report,
    started,
    training,
)

WEEK = 604_800


def failed(**spec):
    """Return a training that crashed for good at T0."""
    cluster = started(maxRetries=0, **spec)
    cluster.end(0, ended(code=70, message=report("TrainerFailed", message="nan")), failed=True)
    cluster.settle()
    return cluster


def test_a_failed_trainings_checkpoints_go_after_a_week():
    cluster = failed()
    assert cluster.decide().next_check_at == T0 + timedelta(seconds=WEEK)
    cluster.later(WEEK - 1)
    assert cluster.decide().actions == ()
    cluster.later(1)
    assert cluster.step().actions == (RemoveCheckpoints(),)
    assert cluster.settle().actions == ()
    cluster.removal["status"] = {"conditions": [COMPLETE]}
    told = cluster.step()
    assert [e.reason for e in told.events] == ["CheckpointsRemoved"]
    assert told.next_check_at == cluster.now
    assert cluster.step().actions == (DeleteChild("Job", "sft-sweep", "removal"),)
    assert cluster.settle().actions == ()
    assert cluster.training.status.checkpoints_removed_at == cluster.now
    assert cluster.training.status.state == "TrainerFailed"


def test_a_removal_that_fails_stays_to_be_looked_at():
    cluster = failed(checkpointRetentionSeconds=0)
    cluster.removal["status"] = {"conditions": [FAILED]}
    assert cluster.later(10 * WEEK).settle().actions == ()
    assert cluster.training.status.checkpoints_removed_at is None
    cluster.removal = None  # deleted, to try again
    assert cluster.decide().actions == (RemoveCheckpoints(),)


def test_it_may_be_kept_for_longer_at_any_time():
    cluster = failed()
    change(cluster, checkpoint_retention_seconds=10 * WEEK)
    assert cluster.later(9 * WEEK).settle().actions == ()


@pytest.mark.parametrize("end", ["DeadlineExceeded", "BudgetExceeded", "Succeeded", "Unmet"])
def test_what_can_go_on_or_has_none_is_left_alone(end):
    budget = {"usdPerCPUHour": 36, "maxUSD": 1}
    spec = {"activeDeadlineSeconds": 50} if end == "DeadlineExceeded" else {}
    cluster = started(**spec, budget=budget if end == "BudgetExceeded" else None)
    if end in ("Succeeded", "Unmet"):
        loss = 2.0 if end == "Succeeded" else 9.0
        cluster.end(0, ended(message=done(1, loss=loss)), failed=False)
    else:
        cluster.later(96).settle()
        cluster.pods[0] = []
        cluster.jobs[0]["status"]["conditions"] = [
            condition("Suspended", "JobSuspended", cluster.now)
        ]
    cluster.settle()
    assert cluster.training.status.finished_at is not None
    assert cluster.later(10 * WEEK).settle().actions == ()


def test_a_pod_that_may_still_save_is_waited_for():
    seen = failed(checkpointRetentionSeconds=5).later(60).training
    busy = retention.after_the_end(seen, None, busy=True, others=0, now=T0 + timedelta(seconds=60))
    assert busy.actions == ()
    free = retention.after_the_end(seen, None, busy=False, others=0, now=T0 + timedelta(seconds=60))
    assert free.actions == (RemoveCheckpoints(),)


def test_few_are_removed_at_a_time():
    """An operator that is new to it finds years of them due at once."""
    seen, now = failed(checkpointRetentionSeconds=5).later(60).training, T0 + timedelta(seconds=60)
    for others, wanted in ((3, (RemoveCheckpoints(),)), (4, ())):
        told = retention.after_the_end(seen, None, busy=False, others=others, now=now)
        assert told.actions == wanted
    assert told.look_again == now + timedelta(seconds=30)
    assert build.removal(seen, SETTINGS)["metadata"]["labels"]["policyops.dev/sweep"]


def test_a_pods_own_files_need_no_job():
    cluster = failed(artifact={"uri": "file:///models"})
    assert cluster.later(2 * WEEK).settle().actions == ()


def other(uid, *, policy="forge", succeeded="False"):
    status = {"conditions": [{"type": "Succeeded", "status": succeeded}]}
    return {"metadata": {"uid": uid}, "spec": {"policy": policy}, "status": status}


def test_a_run_is_told_which_trainings_there_are():
    others = [
        other("b"),
        other("a", succeeded="Unknown"),
        other("done", succeeded="True"),
        other("x", policy="another"),
        {"metadata": {"uid": "new"}, "spec": {"policy": "forge"}},
    ]
    told = retention.rules(training(), others, "cluster-uid", T0)
    assert told.to_wire() == {
        "cluster": "cluster-uid",
        "retentionSeconds": WEEK,
        "asOf": "2026-01-01T00:00:00Z",
        "trainings": ["a", "b", "new"],
    }
    assert retention.rules(training(), others, "", T0) is None
    many = [other(str(n)) for n in range(201)]
    assert retention.rules(training(), many, "cluster-uid", T0).trainings is None


def test_the_job_has_the_store_and_its_secret_and_nothing_else():
    made = training(artifact={"uri": "s3://models/team", "secretRef": {"name": "bucket"}})
    spec = build.removal(made, SETTINGS)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert container["command"][3:] == ["s3://models/team", "forge", "t-uid"]
    assert [v["name"] for v in spec["volumes"]] == ["tmp"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    job = build.removal(training(), SETTINGS)
    assert "policyops.dev/attempt" not in job["metadata"]["labels"]
    (claim,) = (
        v["persistentVolumeClaim"]["claimName"]
        for v in job["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    )
    assert claim == "artifacts"
