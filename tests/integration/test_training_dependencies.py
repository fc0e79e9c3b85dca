"""Trainings that wait for others: a base, models that take part, versions to compare with."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.client import Api, condition, jobs, run_config, until
from integration.kubelet import Kubelet
from integration.objects import DIGEST, completed, training

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("operator", "node")


def test_a_training_waits_for_its_base(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    base = {"training": {"name": "forge-sft"}}
    api.create(training(namespace, "forge-grpo", base=base))
    waiting = status("WaitingForBase", "forge-grpo")
    message = condition({"status": waiting}, "Running")["message"]
    assert message == "waits for PolicyTraining forge-sft, which does not exist yet"
    api.create(training(namespace, "forge-sft"))
    kubelet.run("forge-sft-0")
    assert jobs(api, namespace) == ["forge-sft-0"]
    kubelet.end("forge-sft-0", 0, completed(1))
    config = run_config(api, namespace, "forge-grpo-0")
    assert config.base.artifact is not None
    assert (config.base.artifact.version, config.base.artifact.sha256) == (1, DIGEST)
    assert config.base.artifact.path == "/var/lib/policyops/pvc/models/forge/1"
    assert config.min_version == 2
    kubelet.run("forge-grpo-0")
    kubelet.end("forge-grpo-0", 0, completed(2))
    assert status("Succeeded", "forge-grpo")["version"] == 2
    assert api.get("PolicyVersion", namespace, "forge-v2")["spec"]["parentVersion"] == 1


def test_a_base_that_its_ttl_deleted_is_answered_for_by_its_version_but_not_when_made_anew(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    base = {"training": {"name": "forge-sft"}}
    api.create(training(namespace, "forge-grpo", base=base))
    sft = api.create(training(namespace, "forge-sft", ttlSecondsAfterFinished=0))
    status("WaitingForBase", "forge-grpo")
    kubelet.run("forge-sft-0")
    kubelet.end("forge-sft-0", 0, completed(1))
    until("it is deleted", lambda: api.find("PolicyTraining", namespace, "forge-sft") is None)
    kubelet.run("forge-grpo-0")
    (told,) = status("Training", "forge-grpo")["dependencies"]
    uid = sft["metadata"]["uid"]
    assert told == {"role": "base", "trainingUID": uid, "version": "forge-v1"}

    api.create(training(namespace, "forge-next", base=base))
    message = condition({"status": status("WaitingForBase", "forge-next")}, "Running")["message"]
    assert message.startswith("PolicyTraining forge-sft does not exist; unless it does by ")
    assert message.endswith(" UTC, PolicyVersion forge-v1 of an earlier one is taken")
    api.create(training(namespace, "forge-sft"))

    def anew() -> bool:
        found = condition({"status": status("WaitingForBase", "forge-next")}, "Running")["message"]
        assert found.startswith("waits for PolicyTraining forge-sft, which is "), found
        return True

    until("it waits for the new one", anew)


def test_trainings_that_wait_for_each_other_say_so(
    api: Api, namespace: str, status: Callable[..., Obj]
) -> None:
    for name, needed in (("a", "b"), ("b", "c"), ("c", "a")):
        api.create(training(namespace, name, base={"training": {"name": needed}}))

    def told(name: str) -> bool:
        found = condition({"status": status("WaitingForBase", name)}, "Running")["message"]
        return bool("none of them can start" in found)

    for name, others in (("a", "b, b for c, c for a"), ("b", "c, c for a, a for b")):
        until("the circle is named", lambda name=name: told(name))
        message = condition({"status": status("WaitingForBase", name)}, "Running")["message"]
        assert message.startswith(f"{name} waits for {others}: none of them can start")
    api.delete("PolicyTraining", namespace, "c")
    until("b waits for c", lambda: not told("b"))
    until("a waits for b", lambda: not told("a"))


def test_a_base_that_failed_fails_what_waits_for_it(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, "forge-sft"))
    api.create(training(namespace, "forge-grpo", base={"training": {"name": "forge-sft"}}))
    status("WaitingForBase", "forge-grpo")
    kubelet.end("forge-sft-0", 0, completed(1, eval_loss=9))
    ended = status("BaseFailed", "forge-grpo")
    message = condition({"status": ended}, "Succeeded")["message"]
    assert "PolicyTraining forge-sft, its base, failed (ExitCriteriaUnmet" in message
    assert jobs(api, namespace) == ["forge-sft-0"]


def test_a_training_waits_for_every_model_that_takes_part(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    """A base by version, a reward model by training, an earlier version to be judged against."""
    api.create(
        training(
            namespace,
            "forge-next",
            recipe="GRPO",
            sft=None,
            grpo={"rewards": [{"name": "liked", "weight": 1, "model": "reward"}]},
            base={"version": 1},
            referenceModels={"reward": {"training": {"name": "rm"}}},
            exitCriteria=[{"metric": "eval_reward", "min": 0, "against": "version:1"}],
        )
    )
    message = condition({"status": status("WaitingForBase", "forge-next")}, "Running")["message"]
    assert message == "waits for PolicyVersion forge-v1, which does not exist"
    api.create(training(namespace, "forge-first"))
    kubelet.run("forge-first-0")
    kubelet.end("forge-first-0", 0, completed(1))
    waiting = status("WaitingForReference", "forge-next")
    message = condition({"status": waiting}, "Running")["message"]
    assert message == "waits for PolicyTraining rm, which does not exist yet"
    api.create(training(namespace, "rm", policy="rm"))
    kubelet.run("rm-0")
    kubelet.end("rm-0", 0, completed(1, policy="rm"))
    config = run_config(api, namespace, "forge-next-0")
    assert {r.name: (r.artifact.policy, r.artifact.version) for r in config.references} == {
        "reward": ("rm", 1),
        "version:1": ("forge", 1),
    }
    annotations = api.get("Job", namespace, "forge-next-0")["metadata"]["annotations"]
    assert annotations["policyops.dev/base-version"] == "forge-v1"
    assert annotations["policyops.dev/reference-versions"] == "reward=rm-v1,version:1=forge-v1"
    # A later attempt takes the same versions, even when who made them is gone.
    api.delete("PolicyTraining", namespace, "rm")
    kubelet.end("forge-next-0", 75)
    again = run_config(api, namespace, "forge-next-1")
    assert again.references == config.references


def test_unmet_criteria_may_be_kept_for_others_to_start_from(
    api: Api, namespace: str, kubelet: Kubelet, status: Callable[..., Obj]
) -> None:
    api.create(training(namespace, "forge-sft", onUnmet="Keep"))
    api.create(training(namespace, "forge-grpo", base={"training": {"name": "forge-sft"}}))
    kubelet.run("forge-sft-0")
    kubelet.end("forge-sft-0", 0, completed(1, eval_loss=9))
    ended = status("Kept", "forge-sft")
    assert condition({"status": ended}, "Succeeded")["status"] == "True"
    record = api.get("PolicyVersion", namespace, "forge-v1")
    assert condition(record, "Accepted")["status"] == "False"
    kubelet.run("forge-grpo-0")
    status("Training", "forge-grpo")
