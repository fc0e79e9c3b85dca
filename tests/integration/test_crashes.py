"""Kill the operator after its k-th write, for every k: the end is the same as without a kill.

A run is a whole story with one operator that sees one namespace. The first run is left alone; its
end is what all others have to reach, and its writes are the moments at which the others are killed.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from integration.client import Api, Obj, new_namespace, until
from integration.endstate import differences, end_state
from integration.kubelet import Kubelet
from integration.monitoring import PlayedPrometheus
from integration.objects import completed, failed, training
from integration.operator_process import OperatorProcess
from integration.proxy import Loop, Proxy
from integration.rollout import Alertmanager, Rollout
from integration.zygote import ForkedOperator, Zygote
from policy_api.contract.report import Outcome

pytestmark = pytest.mark.usefixtures("node", "gateway")

# Most of a run is waiting (retries, drains), so several fit on two cores.
SIDE_BY_SIDE = 6
STORY_SECONDS = 90.0


@dataclass
class Run:
    """One run of a story."""

    api: Api
    namespace: str
    operator: OperatorProcess
    proxy: Proxy
    killed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def kubelet(self) -> Kubelet:
        """Plays the pods."""
        return Kubelet(self.api, self.namespace)

    def revive(self) -> None:
        """Start the operator again once it was killed."""
        while not self.over.is_set():
            if self.killed.wait(0.1):
                self.operator.kill()  # reaps the process
                self.operator.start()
                return


Story = Callable[[Run], None]


@dataclass(frozen=True)
class World:
    """What runs share."""

    api: Api
    prometheus: PlayedPrometheus
    loop: Loop
    zygote: Zygote
    folder: Path

    def run(self, story: Story, kill_at: int | None) -> tuple[dict[str, Obj], list[str]]:
        """Play a story; return how it ends and what was written."""
        namespace = new_namespace(self.api, "crash")
        folder = self.folder / namespace
        folder.mkdir()
        proxy = Proxy(self.api, namespace)
        self.loop.call(proxy.start())
        env = {"POLICYOPS_PROMETHEUS_URL": self.prometheus.url}
        kubeconfig = proxy.kubeconfig(folder / "kubeconfig")
        operator = ForkedOperator(self.zygote, kubeconfig, namespace, folder, env)
        run = Run(self.api, namespace, operator, proxy)

        def kill() -> None:
            os.kill(run.operator.pid, signal.SIGKILL)
            run.killed.set()

        proxy.kill_at(kill_at, kill)
        reviver = threading.Thread(target=run.revive)
        run.operator.start()
        reviver.start()
        try:
            story(run)
            if run.killed.is_set():
                reviver.join()
                run.operator.wait_ready()
            return settled(run), proxy.writes
        except AssertionError as error:
            raise AssertionError(f"{error}\n{run.operator.tail(60)}") from error
        finally:
            run.over.set()
            reviver.join()
            run.operator.kill()
            self.loop.call(proxy.stop())
            self.api.delete("Namespace", None, namespace)


def settled(run: Run) -> dict[str, Obj]:
    """Return the end state once it has stayed the same for a second: nothing is under way."""
    own = {run.operator.url: "OPERATOR"}

    def look() -> dict[str, Obj]:
        return end_state(run.api, run.namespace, own)

    last, since = look(), time.monotonic()

    def same() -> bool:
        nonlocal last, since
        now = look()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 1

    until("the end state is settled", same, seconds=STORY_SECONDS)
    return last


@pytest.fixture(scope="module")
def world(
    api: Api, prometheus: PlayedPrometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """What runs share, for the module."""
    loop = Loop()
    zygote = Zygote()
    yield World(api, prometheus, loop, zygote, tmp_path_factory.mktemp("crashes"))
    zygote.stop()
    loop.stop()


def every_k(world: World, story: Story) -> list[str]:
    """Play the story with a kill after each write; return the writes of the untouched run."""
    wanted, writes = world.run(story, None)
    assert len(writes) > 10, writes
    problems: dict[int, str] = {}

    def one(k: int) -> None:
        try:
            have, seen = world.run(story, k)
            lines = differences(wanted, have)
            # The last writes may be fewer (a second try to delete what is gone): no kill, then.
            if len(seen) < k < len(writes) - 3:
                lines.append(f"only {len(seen)} writes")
        except AssertionError as error:
            lines = [str(error)]
        if lines:
            problems[k] = "\n    ".join(lines)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(one, range(1, len(writes) + 1)))
    told = "\n".join(
        f"killed after write {k} ({writes[k - 1]}):\n    {text}"
        for k, text in sorted(problems.items())
    )
    assert not problems, f"{len(problems)} of {len(writes)} runs ended differently\n{told}"
    return writes


def in_state(run: Run, state: str) -> None:
    """Wait until the training is in a state."""

    def is_so() -> bool:
        status = run.api.get("PolicyTraining", run.namespace, "forge")["status"]
        return bool(status["state"] == state)

    until(state, is_so, seconds=STORY_SECONDS)


def a_training_with_a_retry(run: Run) -> None:
    """The first attempt crashes, the second one succeeds."""
    run.api.create(training(run.namespace, tag="exp_001"))
    run.kubelet.run("forge-0")
    run.kubelet.end("forge-0", 70, failed(Outcome.TRAINER_FAILED, "ValueError: shapes differ"))
    run.kubelet.run("forge-1")
    run.kubelet.end("forge-1", 0, completed(1, eval_loss=1.5))
    in_state(run, "Succeeded")


def a_training_whose_budget_is_raised(run: Run) -> None:
    """The budget stops the first attempt; with a larger one it goes on, and a person suspends it.

    In the end the children of the first attempt are gone.
    """
    run.api.create(training(run.namespace, budget={"usdPerCPUHour": 3600, "maxUSD": 2}))
    run.kubelet.run("forge-0")
    in_state(run, "BudgetExceeded")
    larger = {"spec": {"budget": {"maxUSD": 1000}}}
    run.api.patch("PolicyTraining", run.namespace, "forge", larger)
    for index in (1, 2):
        run.kubelet.run(f"forge-{index}")
        in_state(run, "Training")  # until the status is written anew it says Suspended
        run.api.patch("PolicyTraining", run.namespace, "forge", {"spec": {"suspend": True}})
        in_state(run, "Suspended")
        run.api.patch("PolicyTraining", run.namespace, "forge", {"spec": {"suspend": False}})
    run.kubelet.run("forge-3")
    run.kubelet.end("forge-3", 0, completed(1, eval_loss=1.5))
    in_state(run, "Succeeded")
    run.api.gone("Job", run.namespace, "forge-0")
    run.api.gone("ConfigMap", run.namespace, "forge-0")


def a_rollout_and_its_rollback(run: Run) -> None:
    """Version 1 serves, version 2 goes to 10 % and 50 %, an alert takes it back."""
    rollout = Rollout(run.api, run.namespace)
    rollout.register(1)
    steps = [
        {"name": "canary", "weight": 10, "holdSeconds": 1},
        {"name": "half", "weight": 50, "holdSeconds": 600},
    ]
    rollout.create(rollout={"steps": steps})
    rollout.wait("Promoted", stable=1, seconds=STORY_SECONDS)
    rollout.register(2)
    rollout.target(2)
    until(
        "half of the traffic",
        lambda: (
            rollout.status["candidate"]["stepName"] == "half"
            and rollout.weights() == {1: 50, 2: 50}
        ),
        seconds=STORY_SECONDS,
        show=lambda: rollout.status,
    )

    def delivered() -> bool:
        """Send as Alertmanager does: until it is answered with a 2xx."""
        try:
            alertmanager = Alertmanager(run.api, run.operator)
            try:
                alertmanager.notify(run.namespace, version=2)
            finally:
                alertmanager.close()
        except (httpx.TransportError, OSError):
            return False
        return True

    until("the alert is delivered", delivered, seconds=STORY_SECONDS)
    rollout.wait("RolledBack", stable=1, seconds=STORY_SECONDS)
    until(
        "version 2 is gone",
        lambda: rollout.servers() == ["forge-v1"] and rollout.weights() == {1: 100},
        seconds=STORY_SECONDS,
        show=lambda: rollout.status,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("story", "attempts"),
    [(a_training_with_a_retry, 2), (a_training_whose_budget_is_raised, 4)],
)
def test_a_training_survives_a_kill_after_every_write(
    world: World, story: Story, attempts: int, record_property: Callable[[str, object], None]
) -> None:
    writes = every_k(world, story)
    record_property("writes", len(writes))
    jobs = [w for w in writes if w.startswith("POST") and "/jobs/" in w]
    assert len(jobs) == attempts


@pytest.mark.timeout(600)
def test_a_rollout_survives_a_kill_after_every_write(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    writes = every_k(world, a_rollout_and_its_rollback)
    record_property("writes", len(writes))
    assert any("httproutes/forge" in w for w in writes)
