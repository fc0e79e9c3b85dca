"""Whatever happens, in whatever order: what always holds of a rollout."""

import contextlib
import functools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from policy_operator.monitoring.types import Monitoring, Signal
from policy_operator.rollout.decide import decide
from policy_operator.rollout.observe import read
from rollout_world import KilledError, World

VERSIONS = st.sampled_from([1, 2, 3])


class Rollouts(RuleBasedStateMachine):
    """Users, pods, the gateway, Prometheus and SIGKILL act in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.rejected: set[int] = set()
        self.first_stable: int | None = None
        self.seen_writes = 0

    @rule()
    def reconcile(self) -> None:
        self.world.reconcile()

    @rule(after=st.integers(0, 4))
    def die(self, after: int) -> None:
        """Be killed after a few writes."""
        world = self.world
        world.kill_at = len(world.writes) + after
        with contextlib.suppress(KilledError):
            world.reconcile()
        world.kill_at = None

    @rule(version=VERSIONS, after=st.integers(0, 4))
    def die_in_a_rollback(self, version: int, after: int) -> None:
        """Be killed after a few writes while an alert is acted on; it is delivered again."""
        world, signal = self.world, self.world.alert(version)
        world.kill_at = len(world.writes) + after
        with contextlib.suppress(KilledError):
            world.reconcile(signal)
        world.kill_at = None
        world.reconcile(signal)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule(seconds=st.sampled_from([0.4, 1, 5, 11, 61, 301]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(version=VERSIONS)
    def target(self, version: int) -> None:
        self.world.target(version)

    @rule(version=VERSIONS)
    def pods_die(self, version: int) -> None:
        self.world.dead ^= {version}

    @rule(taken=st.booleans())
    def gateway(self, taken: bool) -> None:
        self.world.gateway = taken

    @rule(blind=st.booleans(), available=st.booleans())
    def prometheus(self, blind: bool, available: bool) -> None:
        self.world.blind = blind
        self.world.monitoring = Monitoring(available, "Reachable" if available else "Unreachable")

    @rule(version=st.one_of(st.none(), VERSIONS), firing=st.booleans(), ago=st.integers(0, 20))
    def alert(self, version: int | None, firing: bool, ago: int) -> None:
        since = self.world.now - timedelta(seconds=ago)
        self.world.reconcile(
            Signal("HighErrorRate", firing, since, version, labelled=version is not None)
        )

    @rule(word=st.sampled_from(["a", "b"]))
    def abort(self, word: str) -> None:
        self.world.annotate(abort=word)

    @precondition(lambda self: self.world.cache.get("PolicyDeployment", "ml", "review-forge"))
    @rule(steps=st.sampled_from([[], [10], [10, 50], [30, 100]]))
    def edit_steps(self, steps: list[int]) -> None:
        self.world.edit(
            rollout={
                "steps": [
                    {"name": f"s{i}", "weight": w, "holdSeconds": 10} for i, w in enumerate(steps)
                ],
                "progressDeadlineSeconds": 60,
            }
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.obj("PolicyDeployment", "review-forge").get("status", {})
        return found

    @invariant()
    def weights_are_percents_and_add_up(self) -> None:
        for split in self.world.weights:
            assert all(0 <= w <= 100 for w in split.values()), split
            assert sum(split.values()) in (0, 100), split
        if self.first_stable is None:
            if "stable" in self.status():
                self.first_stable = len(self.world.weights)
            return
        served = self.world.weights[self.first_stable :]
        assert all(sum(s.values()) == 100 for s in served), "from the first stable version on"

    @invariant()
    def a_rejected_version_stays_without_traffic(self) -> None:
        """Rollback is terminal (nobody retries here), at every single write of the route."""
        world = self.world
        for split in world.weights[self.seen_writes :]:
            taking = {v for v, w in split.items() if w > 0}
            assert not taking & self.rejected, (split, self.rejected)
        self.seen_writes = len(world.weights)
        status = self.status()
        self.rejected |= {r["version"] for r in status.get("rejected", ())}

    @invariant()
    def a_weight_has_a_server_behind_it(self) -> None:
        for version, weight in self.world.split().items():
            if weight > 0:
                assert version in self.world.servers(), f"v{version} has traffic and no server"

    @invariant()
    def the_status_is_of_one_piece(self) -> None:
        status = self.status()
        stable, candidate = status.get("stable"), status.get("candidate")
        if stable:
            assert stable["weight"] + (candidate["weight"] if candidate else 0) == 100
        if candidate and stable:
            assert candidate["version"] != stable["version"]
        assert len(status.get("history", ())) <= 20

    @invariant()
    def deciding_is_pure(self) -> None:
        world = self.world
        observed = read(
            world.cache,
            world.pdep,
            monitoring=world.about("ml", "review-forge", world.now),
            rules_kind="ConfigMap",
            server_image="x",
        )
        first = decide(world.pdep, observed, world.now)
        assert decide(world.pdep, observed, world.now) == first

    def teardown(self) -> None:
        """Leave the world alone: it comes to rest, and at rest nothing is written."""
        world = self.world
        world.dead.clear()
        world.gateway, world.blind = True, False
        for _ in range(20):
            # Prometheus is asked after every change: no alert fires any more.
            world.monitoring = Monitoring(True, "Reachable", asked_at=world.now)
            world.run()
            world.advance(31)
        world.settle()
        assert world.reconcile() == 0
        split, status = world.split(), self.status()
        assert "stable" in status or status["state"] == "Aborted"
        assert sum(split.values()) == (100 if "stable" in status else 0)
        assert "candidate" not in status, status
        target = world.pdep.spec.target.version
        if status["state"] == "Promoted":
            assert status["stable"]["version"] == target
        else:
            assert status["state"] in ("RolledBack", "Aborted", "ProgressDeadlineExceeded"), status
        kept = {v for v, w in split.items() if w == 0}
        assert kept == ({status["previous"]["version"]} if "previous" in status else set())
        assert world.servers() == set(split)


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    # Shrinking takes minutes on a small machine; the steps that failed are short enough to read.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def story(world: World) -> None:
    """Serve 1, roll 2 out, roll 3 back."""
    world.serve(1)
    world.serve(2)
    world.target(3)
    world.run()
    world.advance(3)
    world.run()
    world.reconcile(world.alert(3))
    world.run()
    world.advance(15)
    world.run()


def end(world: World) -> dict[str, Any]:
    """Return what must be the same however often the operator was killed."""
    status = world.status
    return {
        "split": world.split(),
        "servers": world.servers(),
        "state": status["state"],
        "stable": status["stable"]["version"],
        "rejected": [(r["version"], r["reason"]) for r in status["rejected"]],
        "events": [h["event"] for h in status["history"]],
        "serving": {v: world.serving(v) for v in world.versions},
    }


class Mortal(World):
    """An operator that is killed before its k-th write and started again."""

    def reconcile(self, *signals: Signal) -> int:
        before = len(self.writes)
        try:
            super().reconcile(*signals)
        except KilledError:
            self.kill_at = None
            # Killed after the weights: Alertmanager may have given up meanwhile, nothing is told
            # again. Killed before them: nobody answered, and it sends again.
            again = signals if len(self.writes) == before else ()
            super().reconcile(*again)
        return len(self.writes) - before


@functools.cache
def calm() -> World:
    """Return the world after the story without a death."""
    world = World()
    story(world)
    return world


def test_the_story_has_a_known_number_of_writes():
    assert 40 <= len(calm().writes) <= 60, "the crash test below covers each of them"


@pytest.mark.parametrize("k", range(60))
def test_killed_before_any_write_the_end_is_the_same(k: int):
    mortal = Mortal(kill_at=k)
    story(mortal)
    assert end(mortal) == end(calm())
