"""Hundreds of trainings at once: each gets its Job, one and no more, even over a kill."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.arrivals import Arrivals
from integration.client import Api, new_namespace, until
from integration.objects import training
from integration.operator_process import OperatorProcess

COUNT = 300
STATE = "Starting"
CREATORS = 16


@pytest.mark.parametrize("kill", [False, True], ids=["undisturbed", "killed in the middle"])
def test_every_training_gets_exactly_one_job(
    api: Api,
    namespace: str,
    start_operator: Callable[..., OperatorProcess],
    kill: bool,
    record_property: Callable[[str, object], None],
) -> None:
    operator = start_operator(new_namespace(api, "operator"))
    operator.wait_ready()
    record_property("rss_idle_mib", round(operator.rss()))
    names = [f"forge-{number:03}" for number in range(COUNT)]
    jobs = Arrivals(api, "Job", lambda job: True)
    started = Arrivals(api, "PolicyTraining", lambda t: t.get("status", {}).get("state") == STATE)
    began = time.perf_counter()
    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(lambda name: api.create(training(namespace, name)), names))
    if kill:
        until("some Jobs", lambda: len(jobs.of(namespace)) > COUNT // 10)
        operator.kill()
        operator.start()
    for what, arrivals in (("a Job each", jobs), ("each says so", started)):
        until(
            what,
            lambda arrivals=arrivals: len(arrivals.of(namespace)) >= COUNT,
            seconds=120,
            show=lambda arrivals=arrivals: (len(arrivals.of(namespace)), arrivals.interruptions),
        )
    record_property("seconds", round(max(jobs.of(namespace).values()) - began, 1))
    record_property("rss_mib", round(operator.rss()))
    made = api.list("Job", namespace)
    assert sorted(j["metadata"]["name"] for j in made) == [f"{name}-0" for name in names]
    numbers = sorted(int(j["metadata"]["labels"]["policyops.dev/version"]) for j in made)
    assert len(set(numbers)) == COUNT
    if not kill:  # a number whose Job was not made when the operator died is left out
        assert numbers == list(range(1, COUNT + 1))
    configs = {o["metadata"]["name"] for o in api.list("ConfigMap", namespace)}
    assert {f"{name}-0" for name in names} <= configs
    operator.stop()
    assert not operator.tracebacks()
