"""Numbers of versions are never given twice."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from policy_operator.machinery.cache import Cache
from policy_operator.registry.numbers import (
    Numbers,
    first_free,
    label_number,
    ledger,
    ledger_name,
    recorded_number,
)


def version(number: int):
    return {
        "metadata": {
            "namespace": "ml",
            "name": f"p-v{number}",
            "uid": f"v{number}",
            "resourceVersion": "1",
            "labels": {"policyops.dev/policy": "p"},
        },
        "spec": {"version": number},
    }


def job(number: int | str, name: str = "j"):
    return {
        "metadata": {
            "namespace": "ml",
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            "labels": {"policyops.dev/policy": "p", "policyops.dev/version": str(number)},
        }
    }


def test_the_first_version_is_one():
    assert first_free([], [], 0, []) == 1


@given(
    st.lists(st.integers(1, 1000)),
    st.lists(st.integers(1, 1000)),
    st.integers(0, 1000),
    st.lists(st.integers(1, 1000)),
)
def test_a_free_number_is_above_all_that_were_recorded_reserved_or_remembered(
    versions, jobs, remembered, reserved
):
    free = first_free([version(n) for n in versions], [job(n) for n in jobs], remembered, reserved)
    assert free == 1 + max([*versions, *jobs, remembered, *reserved], default=0)


def test_a_label_that_is_no_number_reserves_nothing():
    assert label_number(job("latest")) == 0
    assert label_number({"metadata": {}}) == 0


def test_two_trainings_that_start_at_once_get_different_numbers_before_the_cache_knows():
    numbers = Numbers(Cache())
    assert numbers.reserve("ml", "p", "training-a") == 1
    assert numbers.reserve("ml", "p", "training-b") == 2
    assert numbers.reserve("ml", "p", "training-a") == 1
    assert numbers.reserve("ml", "other", "training-c") == 1
    assert numbers.reserve("elsewhere", "p", "training-d") == 1


def test_a_new_process_reserves_above_what_the_cluster_shows():
    cache = Cache()
    cache.put("PolicyVersion", version(3))
    cache.put("Job", job(5))
    assert Numbers(cache).reserve("ml", "p", "t") == 6


def test_a_deleted_version_does_not_free_its_number():
    cache = Cache()
    book = ledger("ml", "p", 7)
    book["metadata"] |= {"uid": "book", "resourceVersion": "1"}
    cache.put("ConfigMap", book)
    assert Numbers(cache).reserve("ml", "p", "t") == 8


class Registry:
    """Takes applied ConfigMaps into the cache, as the API client does, after a moment."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.written = []

    async def apply(self, manifest, *, seen):
        await asyncio.sleep(0)
        assert seen is self.cache.get("ConfigMap", "ml", manifest["metadata"]["name"])
        self.written.append(recorded_number(manifest))
        manifest["metadata"] |= {"uid": "book", "resourceVersion": str(len(self.written))}
        self.cache.put("ConfigMap", manifest)


@given(st.permutations(range(1, 7)))
def test_the_ledger_ends_with_the_highest_number_in_whatever_order_trainings_end(order):
    async def story() -> None:
        cache = Cache()
        numbers, registry = Numbers(cache), Registry(cache)
        await asyncio.gather(*(numbers.remember(registry, "ml", "p", n) for n in order))
        assert recorded_number(cache.get("ConfigMap", "ml", ledger_name("p"))) == 6
        assert registry.written == sorted(registry.written)

    asyncio.run(story())
