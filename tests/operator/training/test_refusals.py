"""What the API server refuses to make, to change or to delete: told, tried again, nothing lost."""

from datetime import timedelta

import pytest
from policy_api.base import rfc3339
from policy_operator.training.types import (
    Refusal,
    SetDeadline,
    StopJob,
)
from training_world import (
    T0,
    Cluster,
    change,
    done,
    ended,
    started,
    status_of,
    suspend,
    training,
)


def test_a_template_that_the_api_server_never_takes_fails():
    cluster = Cluster(training(), refusal=Refusal("resources.limits: must be a quantity", True))
    cluster.settle()
    assert status_of(cluster) == ("False", "ConfigInvalid", "resources.limits: must be a quantity")


def test_what_runs_is_stopped_at_once_when_the_rest_is_never_taken():
    cluster = Cluster(training())
    cluster.step()  # the Job is there, its ConfigMap is not
    cluster.refusal = Refusal("data: Too long", True)
    decision = cluster.step()
    assert decision.next_check_at == cluster.now
    (attempt,) = cluster.training.status.attempts
    assert (attempt.reason, attempt.ended_at) == ("ConfigInvalid", T0)
    assert cluster.decide().actions == (StopJob("sft-0", "Ending"),)
    cluster.settle()
    assert status_of(cluster) == ("False", "ConfigInvalid", "data: Too long")


def test_a_refusal_that_may_pass_is_told_and_tried_again_more_and_more_seldom():
    cluster = Cluster(training(), refusal=Refusal("exceeded quota: jobs", False))
    waits = []
    for _ in range(7):
        again = cluster.settle().next_check_at
        assert status_of(cluster) == ("Unknown", "Refused", "exceeded quota: jobs")
        waits.append((again - cluster.now).total_seconds())
        cluster.now = again
    assert waits == [5, 5, 10, 20, 40, 80, 120]
    cluster.refusal = None
    cluster.settle()
    assert (cluster.jobs_made, cluster.training.status.state) == ([0], "Starting")
    assert status_of(cluster, "Suspended") is None


def test_a_refusal_of_what_a_job_needs_keeps_the_job():
    cluster = Cluster(training())
    cluster.step()
    cluster.refusal = Refusal("policy says no", False)
    assert cluster.settle().next_check_at == T0 + timedelta(seconds=5)
    assert cluster.training.status.state == "Refused"
    cluster.refusal = None
    cluster.run(0)
    cluster.settle()
    assert (cluster.training.status.state, cluster.jobs_made) == ("Training", [0])


def test_a_record_whose_name_is_taken_waits_and_loses_nothing():
    cluster = Cluster(training())
    cluster.settle()
    cluster.end(0, ended(message=done()), failed=False)
    cluster.refusal = Refusal("ConfigMap forge-versions exists and is managed by Helm", False)
    waits = []
    for _ in range(3):
        decision = cluster.step()
        assert decision.status.state == "Refused"
        waits.append((decision.next_check_at - cluster.now).total_seconds())
        assert decision.actions == ()
        cluster.now += timedelta(seconds=60)
    assert waits == [5, 60, 120]
    cluster.refusal = None
    cluster.settle()
    assert cluster.training.status.state == "Succeeded"
    assert cluster.training.status.version == 1
    assert cluster.versions_made == [1]


def test_a_refused_config_map_is_tried_again_soon():
    cluster = Cluster(training())
    cluster.step()
    cluster.refusal = Refusal("ConfigMap sft-0 is refused: exceeded quota", False)
    decision = cluster.step()
    assert decision.status.state == "Refused"
    assert cluster.now < decision.next_check_at <= cluster.now + timedelta(seconds=30)


def refuse_changes(cluster: Cluster) -> None:
    """Answer as admission does that lets nobody change or delete our Jobs."""
    cluster.unchangeable = "the API server refuses to stop Job sft-0: not on a Saturday"


@pytest.mark.parametrize("why", ["suspend", "budget", "deadline"])
def test_a_stop_that_is_refused_is_told_and_the_attempt_is_not_said_to_have_ended(why):
    limits = {
        "budget": {"budget": {"usdPerCPUHour": 36, "maxUSD": 10}},
        "deadline": {"activeDeadlineSeconds": 3600},
    }
    cluster = started(**limits.get(why, {}))
    if why == "suspend":
        suspend(cluster, True)
    cluster.later(3600)
    assert StopJob in {type(a) for a in cluster.decide().actions}
    refuse_changes(cluster)
    decision = cluster.settle()
    said = "the API server refuses to stop Job sft-0: not on a Saturday"
    assert status_of(cluster, "Running") == ("True", "Refused", said)
    assert status_of(cluster) == ("Unknown", "Refused", said)
    assert decision.next_check_at == cluster.now + timedelta(seconds=30)
    assert [(e.type, e.reason) for e in cluster.events[2:]] == [("Warning", "Refused")]
    assert cluster.training.status.attempts[0].ended_at is None
    cluster.unchangeable = None
    cluster.settle()
    assert cluster.jobs[0]["spec"]["suspend"]


def test_a_deadline_that_a_job_may_not_have_changes_nothing_else():
    cluster = started(activeDeadlineSeconds=3600)
    cluster.jobs[0]["status"]["startTime"] = rfc3339(T0)
    change(cluster, active_deadline_seconds=7200)
    assert cluster.decide().actions == (SetDeadline("sft-0", 7200),)
    refuse_changes(cluster)
    decision = cluster.settle()
    assert cluster.training.status.state == "Training"
    assert decision.actions == ()
    assert decision.next_check_at == cluster.now + timedelta(minutes=5)
    assert {e.reason for e in decision.events} == {"Refused"}


def test_what_still_runs_after_the_end_is_tried_again_and_the_verdict_stays():
    cluster = Cluster(training())
    cluster.step()
    cluster.refusal = Refusal("data: Too long", True)
    cluster.step()
    cluster.refusal = None
    refuse_changes(cluster)
    decision = cluster.settle()
    assert status_of(cluster) == ("False", "ConfigInvalid", "data: Too long")
    assert not cluster.jobs[0]["spec"]["suspend"]
    assert decision.next_check_at == cluster.now + timedelta(minutes=5)
    assert [e.reason for e in decision.events] == ["Refused"]
    cluster.unchangeable = None
    cluster.settle()
    assert cluster.jobs[0]["spec"]["suspend"]


def test_a_training_whose_deletion_is_refused_stays_and_says_so():
    cluster = started(ttlSecondsAfterFinished=60)
    cluster.end(0, ended(message=done()), failed=False)
    cluster.settle()
    cluster.later(61)
    refuse_changes(cluster)
    decision = cluster.settle()
    assert not cluster.deleted
    assert decision.next_check_at == cluster.now + timedelta(minutes=5)
    assert cluster.training.status.state == "Succeeded"
