"""Numbers of versions are never given twice."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import AlreadyExists, Conflict, NotFound
from policy_operator.ownership import Taken
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


def test_numbers_go_on_above_what_was_recorded_since_and_above_what_a_deleted_job_reserved():
    cache = Cache()
    numbers = Numbers(cache)
    cache.put("Job", job(5))
    assert numbers.reserve("ml", "p", "a") == 6
    cache.remove("Job", job(5))
    assert numbers.reserve("ml", "p", "b") == 7
    cache.put("PolicyVersion", version(9))
    assert numbers.reserve("ml", "p", "c") == 10


def test_a_deleted_version_does_not_free_its_number():
    cache = Cache()
    book = ledger("ml", "p", 7)
    book["metadata"] |= {"uid": "book", "resourceVersion": "1"}
    cache.put("ConfigMap", book)
    assert Numbers(cache).reserve("ml", "p", "t") == 8


class Registry:
    """One ConfigMap, as the API server keeps it; answers to our own writes reach the cache."""

    def __init__(self, cache: Cache, stored=None) -> None:
        self.cache = cache
        self.stored = stored
        self.written = []

    def _store(self, obj):
        meta = {**obj["metadata"], "uid": "book", "resourceVersion": str(2 + len(self.written))}
        self.stored = {**obj, "metadata": meta}
        self.written.append(recorded_number(obj))
        self.cache.put("ConfigMap", self.stored)

    async def create(self, manifest):
        await asyncio.sleep(0)
        if self.stored is not None:
            raise AlreadyExists(409, "AlreadyExists", "it exists", "POST")
        self._store(manifest)

    async def merge_patch(self, kind, namespace, name, patch, *, seen):
        await asyncio.sleep(0)
        if self.stored is None:
            raise NotFound(404, "NotFound", "no such thing", "PATCH")
        if seen["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "it changed", "PATCH")
        self._store({**self.stored, "data": {**self.stored["data"], **patch["data"]}})

    async def get(self, kind, namespace, name, *, remember):
        assert not remember
        return self.stored


@given(st.permutations(range(1, 7)))
def test_the_ledger_ends_with_the_highest_number_in_whatever_order_trainings_end(order):
    async def story() -> None:
        cache = Cache()
        numbers, registry = Numbers(cache), Registry(cache)
        await asyncio.gather(*(numbers.remember(registry, "ml", "p", n) for n in order))
        assert recorded_number(cache.get("ConfigMap", "ml", ledger_name("p"))) == 6
        assert registry.written == sorted(registry.written)

    asyncio.run(story())


def book(number, **labels):
    made = ledger("ml", "p", number)
    made["metadata"] |= {"uid": "book", "resourceVersion": "1", "labels": labels}
    return made


OURS = {"app.kubernetes.io/managed-by": "policy-operator", "policyops.dev/policy": "p"}


def test_a_ledger_that_went_on_meanwhile_is_not_set_back():
    registry = Registry(Cache(), book(9, **OURS))
    registry.cache.put("ConfigMap", book(2, **OURS))
    registry.stored["metadata"]["resourceVersion"] = "5"
    asyncio.run(Numbers(registry.cache).remember(registry, "ml", "p", 7))
    assert registry.written == []


def test_a_ledger_that_was_deleted_is_made_again():
    registry = Registry(Cache())
    registry.cache.put("ConfigMap", book(2, **OURS))
    asyncio.run(Numbers(registry.cache).remember(registry, "ml", "p", 7))
    assert registry.written == [7]


@pytest.mark.parametrize(
    "labels", [{}, {**OURS, "policyops.dev/policy": "q"}, {"policyops.dev/policy": "p"}]
)
@pytest.mark.parametrize("cached", [True, False])
def test_a_config_map_of_the_ledgers_name_that_is_not_ours_is_left_alone(labels, cached):
    theirs = book(3, **labels)
    registry = Registry(Cache(), theirs)
    if cached:
        registry.cache.put("ConfigMap", theirs)
    numbers = Numbers(registry.cache)
    assert numbers.reserve("ml", "p", "t") == 1, "what it says is not ours either"
    with pytest.raises(Taken, match="ConfigMap p-versions exists and"):
        asyncio.run(numbers.remember(registry, "ml", "p", 7))
    assert registry.written == []


def test_a_version_that_was_recorded_by_hand_without_labels_keeps_its_number():
    cache = Cache()
    for number in (1, 2):
        by_hand = version(number)
        del by_hand["metadata"]["labels"]
        cache.put("PolicyVersion", by_hand)
    assert Numbers(cache).reserve("ml", "p", "t") == 3
