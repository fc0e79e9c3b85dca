"""The demo's two stories on a real cluster, with assertions, while the operator is being killed."""

import random
import threading
from typing import Self

import pytest
import story
from shell import DemoError, Kubectl, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

LEADER = ("-n", story.SYSTEM, "-l", "policyops.dev/leader=true")


class Chaos:
    """Kills the leading operator, with no grace, at random moments until it is stopped."""

    def __init__(self, kubectl: Kubectl, seed: int) -> None:
        self._kubectl = kubectl
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(5, 40)):
            try:
                out = self._kubectl(
                    "delete", "pod", *LEADER, "--grace-period=0", "--force", "--wait=false"
                )
            except DemoError:
                continue  # between two leaders there is none to kill
            self.killed += "deleted" in out


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    kubectl = story.bring_up()
    story.install(kubectl)
    story.start_over(kubectl)
    story.make_data(kubectl)
    return kubectl


@pytest.fixture(scope="module")
def trained(kubectl: Kubectl) -> tuple[story.Trained, story.Trained]:
    with Chaos(kubectl, seed=3) as chaos:
        both = story.train(kubectl)
    assert chaos.killed > 0
    return both


def test_both_trainings_meet_their_exit_criteria_by_learning(
    trained: tuple[story.Trained, story.Trained],
) -> None:
    """Also when the leading operator is killed again and again: one attempt each, one version."""
    sft, grpo = trained
    assert sft.reason == "Succeeded", sft.message
    assert grpo.reason == "Succeeded", grpo.message
    assert sft.version is not None
    assert grpo.version == sft.version + 1
    assert (sft.attempts, grpo.attempts) == (1, 1)
    assert sft.metrics["eval_loss"] < sft.metrics["eval_loss_base"] / 2
    assert grpo.metrics["eval_reward_delta"] >= 0.15


@pytest.fixture(scope="module")
def promoted(kubectl: Kubectl, trained: tuple[story.Trained, story.Trained]) -> story.Load:
    sft, grpo = trained
    story.deploy_first(kubectl, sft)
    return story.roll_out(kubectl, grpo)


def test_a_better_version_is_promoted_without_a_failed_request(
    kubectl: Kubectl, trained: tuple[story.Trained, story.Trained], promoted: story.Load
) -> None:
    sft, grpo = trained
    assert promoted.failed == 0
    assert promoted.ok > 100
    assert set(promoted.versions) == {str(sft.version), str(grpo.version)}
    deployment = kubectl.get("policydeployment", story.POLICY, "-n", story.NAMESPACE)
    assert [s["event"] for s in deployment["status"]["history"]][-1] == "Promoted"


def test_an_alert_sends_a_bad_version_back(
    kubectl: Kubectl, trained: tuple[story.Trained, story.Trained], promoted: story.Load
) -> None:
    """It met its own exit criterion; its answers break the schema; nobody has to do anything."""
    bad = story.train_bad(kubectl)
    assert bad.reason == "Succeeded", bad.message
    back = story.roll_back(kubectl, bad)
    assert back.rejected == [bad.version]
    assert "HighErrorRate" in back.alert
    assert back.bad_answers > 0
    stable = f"{story.POLICY}-v{trained[1].version}"
    assert {name: w for name, w in back.weights.items() if w} == {stable: story.WHOLE}
    record = kubectl.get("policyversion", f"{story.POLICY}-v{bad.version}", "-n", story.NAMESPACE)
    rejected = condition(record, "Rejected")
    assert rejected is not None
    assert rejected["status"] == "True"
    load = story.load_so_far(kubectl)
    assert load.failed == 0
    logged = story.show_log(kubectl)
    assert bad.version in logged
    for version, answered in load.versions.items():
        assert logged[int(version)] >= answered  # every answer that was given is there


def test_uninstalling_leaves_nothing_but_artifacts(kubectl: Kubectl, promoted: story.Load) -> None:
    kubectl("delete", "-k", f"{story.EXAMPLE}/serving", "--wait")
    kinds = "deployment,replicaset,httproute,service,configmap"
    ours = ("-n", story.NAMESPACE, "-l", "policyops.dev/deployment")
    assert kubectl("get", kinds, *ours, "-o", "name") == ""
    kubectl("delete", "-k", "manifests/overlays/local", "--wait")
    assert kubectl("get", "namespace", story.SYSTEM, "--ignore-not-found") == ""
    assert "policyops.dev" not in kubectl("get", "crd", "-o", "name")
    assert "policy-operator" not in kubectl("get", "clusterrole,clusterrolebinding", "-o", "name")
