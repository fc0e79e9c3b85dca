"""What holds for a training whatever happens to it, in whatever order, however often we die."""

from copy import deepcopy
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_operator.training.attempts import next_start
from policy_operator.training.status import finished
from policy_operator.training.types import RecordVersion
from training_world import (
    Cluster,
    condition,
    done,
    ended,
    hold,
    meshed,
    pod,
    release,
    report,
    training,
)

ENDS = {
    "ok": (0, done(1)),
    "unmet": (0, done(1, loss=9.0)),
    "crash": (70, report("TrainerFailed", message="nan")),
    "preempt": (75, report("Preempted", step=3)),
    "data": (65, report("DataInvalid", message="row 3")),
    "oom": (137, report("OutOfMemory", message="killed")),
}
# The same, with a container beside the trainer that goes on.
MESHED = {f"{name} beside a mesh": name for name in ("ok", "crash", "preempt", "data")}
moves = st.lists(
    st.one_of(
        st.sampled_from([*ENDS, *MESHED, "pull", "gone", "run", "delete job", "suspend", "resume"]),
        st.sampled_from(["hold", "release"]),
        st.tuples(st.just("later"), st.integers(1, 400)),
        st.tuples(st.just("die"), st.integers(0, 2)),
    ),
    max_size=25,
)


def held(job) -> bool:
    """Whether somebody else has suspended a Job."""
    return job["spec"]["suspend"] and not job["metadata"]["annotations"]


def end_stopped_pods(cluster: Cluster) -> None:
    """End the pods of suspended Jobs, as the Job controller and the kubelet do."""
    for index, job in cluster.jobs.items():
        if job["spec"]["suspend"] and not job["status"]["conditions"]:
            job["status"]["conditions"] = [condition("Suspended", at=cluster.now)]
            cluster.pods[index] = []


def play(cluster: Cluster, move) -> None:  # noqa: C901 - one case a move
    """Let one thing happen to the newest attempt."""
    newest = max(cluster.jobs, default=None)
    open_job = newest is not None and not cluster.jobs[newest]["status"]["conditions"]
    match move:
        case ("later", seconds):
            cluster.later(seconds)
        case ("die", writes):
            cluster.step(writes=writes)
        case "run" if open_job:
            cluster.run(newest)
        # Within the milliseconds before the status speaks of a Job, its deletion makes it again.
        case "delete job" if any(a.index == newest for a in cluster.training.status.attempts):
            del cluster.jobs[newest]
        case "pull" if open_job:
            state = {"waiting": {"reason": "ErrImagePull"}}
            cluster.pods[newest] = [pod(of=f"job-{newest}", state=state)]
        case "gone":
            end_stopped_pods(cluster)
        case _ if move in MESHED and open_job and not cluster.jobs[newest]["spec"]["suspend"]:
            code, message = ENDS[MESHED[move]]
            last = ended(code=code, message=message, at=cluster.now, of=f"job-{newest}")
            cluster.pods[newest] = [meshed(last)]
        case "suspend" | "resume":
            spec = cluster.training.spec.model_copy(update={"suspend": move == "suspend"})
            cluster.training = replace(cluster.training, spec=spec)
        case "hold" if open_job:
            hold(cluster, newest)
        case "release" if newest is not None and held(cluster.jobs[newest]):
            release(cluster, newest)
        case _ if move in ENDS and open_job:
            code, message = ENDS[move]
            stopping = cluster.jobs[newest]["spec"]["suspend"] and code != 0
            last = ended(code=code, message=message, at=cluster.now, deleted=stopping)
            cluster.end(newest, last, failed=code != 0)


def life(spec, story) -> Cluster:
    """Play a story, deciding after each move."""
    cluster = Cluster(training(**spec))
    for move in story:
        play(cluster, move)
        cluster.step()
    return cluster


specs = st.fixed_dictionaries(
    {},
    optional={
        "maxRetries": st.integers(0, 3),
        "activeDeadlineSeconds": st.integers(1, 2000),
        "ttlSecondsAfterFinished": st.integers(0, 500),
        # A second costs a cent.
        "budget": st.fixed_dictionaries(
            {"usdPerCPUHour": st.just(36), "maxUSD": st.integers(1, 9)}
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(specs, moves)
def test_an_attempt_is_never_made_twice_and_at_most_one_runs(spec, story):
    cluster = Cluster(training(**spec))
    for move in story:
        play(cluster, move)
        cluster.step()
        running = [j for j in cluster.jobs.values() if not j["status"]["conditions"]]
        assert len(running) <= 1
    assert cluster.jobs_made == sorted(set(cluster.jobs_made))


@settings(max_examples=150, deadline=None)
@given(specs, moves)
def test_deciding_twice_changes_nothing(spec, story):
    cluster = life(spec, story)
    if not cluster.deleted:
        cluster.settle()
    before = deepcopy(cluster.training.status)
    again = cluster.decide()
    assert again.status == before
    assert [a for a in again.actions if type(a).__name__ != "DeleteTraining"] == []
    assert again.events == ()


@settings(max_examples=150, deadline=None)
@given(specs, moves, moves)
def test_an_end_is_final(spec, story, rest):
    cluster = life(spec, story)
    if not finished(cluster.training.status):
        return
    verdict = cluster.training.status
    for move in rest:
        play(cluster, move)
        decision = cluster.step()
        assert decision.status == verdict
        assert not any(isinstance(a, RecordVersion) for a in decision.actions)


@settings(max_examples=150, deadline=None)
@given(specs, moves)
def test_what_is_written_fits_the_api_and_can_be_read_again(spec, story):
    cluster = life(spec, story)
    status = cluster.training.status
    assert type(status).model_validate(status.to_wire()) == status
    assert len(status.attempts) <= 20
    assert len(cluster.versions_made) <= 1


@settings(max_examples=100, deadline=None)
@given(specs, moves, st.lists(st.integers(0, 3), max_size=25))
def test_dying_between_two_writes_changes_no_end(spec, story, deaths):
    """The same story with a process that dies and is restarted ends in the same status."""
    quiet = [m for m in story if not isinstance(m, tuple) or m[0] != "die"]
    undisturbed, killed = Cluster(training(**spec)), Cluster(training(**spec))
    for number, move in enumerate(quiet):
        for cluster in (undisturbed, killed):
            play(cluster, move)
        if number < len(deaths):
            killed.step(writes=deaths[number])
        for cluster in (undisturbed, killed):
            cluster.settle()
    assert killed.training.status == undisturbed.training.status
    assert killed.jobs_made == undisturbed.jobs_made
    assert killed.versions_made == undisturbed.versions_made


@settings(max_examples=150, deadline=None)
@given(specs, moves)
def test_each_attempt_is_paid_for_once(spec, story):
    status = life(spec, story).training.status
    assert len(status.attempts) < 20  # so that all are listed
    if status.cost is not None:
        assert status.cost.run_seconds == sum(a.run_seconds or 0 for a in status.attempts)
        assert status.cost.usd == (status.cost.run_seconds / 100 if "budget" in spec else None)


@settings(max_examples=150, deadline=None)
@given(specs, moves)
def test_a_wait_is_never_longer_than_five_minutes(spec, story):
    cluster = life(spec, story)
    attempts = cluster.training.status.attempts
    at = next_start(attempts)
    if at is not None:
        assert (at - attempts[-1].ended_at).total_seconds() <= 300
