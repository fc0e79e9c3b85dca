"""A version's number is given once, whatever happens at the same time or afterwards."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from integration.client import Api, condition, new_namespace, until
from integration.kubelet import Kubelet
from integration.objects import completed, training
from integration.operator_process import OperatorProcess
from policy_api.contract.run import RunConfig

Obj = dict[str, Any]
pytestmark = pytest.mark.usefixtures("node")


def min_version(api: Api, namespace: str, job: str) -> int:
    """Return the number that the attempt's trainer begins to look for a free folder with."""
    made = until(f"ConfigMap {job}", lambda: api.find("ConfigMap", namespace, job))
    return RunConfig.model_validate_json(made["data"]["run.json"]).min_version


def wait_for(api: Api, namespace: str, name: str, *states: str) -> Obj:
    def look() -> Obj:
        status: Obj = api.get("PolicyTraining", namespace, name)["status"]
        assert status["state"] in states, status["state"]
        return status

    return until(f"{name} is {states}", look)


@pytest.mark.usefixtures("operator")
def test_trainings_that_run_and_end_at_once_get_different_numbers(
    api: Api, namespace: str, kubelet: Kubelet
) -> None:
    names = [f"forge-{c}" for c in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: api.create(training(namespace, name)), names))
        numbers = {name: min_version(api, namespace, f"{name}-0") for name in names}
        assert sorted(numbers.values()) == list(range(1, 9))
        list(
            pool.map(
                lambda name: kubelet.end(f"{name}-0", 0, completed(numbers[name])),
                names,
            )
        )
    for name in names:
        assert wait_for(api, namespace, name, "Succeeded")["version"] == numbers[name]
    versions = api.list("PolicyVersion", namespace)
    assert sorted(v["spec"]["version"] for v in versions) == list(range(1, 9))
    trained = {v["spec"]["training"]["name"]: v["spec"]["version"] for v in versions}
    assert trained == numbers


@pytest.mark.usefixtures("operator")
def test_one_number_claimed_twice_is_granted_once(
    api: Api, namespace: str, kubelet: Kubelet
) -> None:
    """Two artifact stores for one policy: the API server's name decides, the other is told."""
    for name in ("forge-a", "forge-b"):
        api.create(training(namespace, name))
        kubelet.pods(f"{name}-0")
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(lambda name: kubelet.end(f"{name}-0", 0, completed(7)), ("forge-a", "forge-b"))
        )
    ends = [
        wait_for(api, namespace, n, "Succeeded", "VersionConflict") for n in ("forge-a", "forge-b")
    ]
    assert sorted(e["state"] for e in ends) == ["Succeeded", "VersionConflict"]
    loser = next(e for e in ends if e["state"] == "VersionConflict")
    assert (
        "PolicyVersion forge-v7 records training"
        in (condition({"status": loser}, "Succeeded")["message"])
    )
    assert len(api.list("PolicyVersion", namespace)) == 1


def test_numbers_never_repeat_after_deletion_and_restart(
    api: Api,
    namespace: str,
    kubelet: Kubelet,
    start_operator: Callable[..., OperatorProcess],
) -> None:
    operator = start_operator(new_namespace(api, "operator"))
    operator.wait_ready()
    api.create(training(namespace, "first"))
    # The trainer found folders 1 to 4 in the store, so it took 5.
    kubelet.end("first-0", 0, completed(5))
    assert wait_for(api, namespace, "first", "Succeeded")["version"] == 5
    api.delete("PolicyTraining", namespace, "first")
    api.delete("PolicyVersion", namespace, "forge-v5")
    until("all of it is gone", lambda: api.list("Job", namespace) == [])
    api.gone("PolicyVersion", namespace, "forge-v5")
    operator.kill()
    operator.start()
    operator.wait_ready()
    api.create(training(namespace, "second"))
    assert min_version(api, namespace, "second-0") == 6
    operator.stop()
