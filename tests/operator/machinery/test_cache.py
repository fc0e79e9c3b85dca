"""The cache: the newest state wins, whichever way it comes; what is deleted stays deleted."""

from hypothesis import given
from hypothesis import strategies as st
from policy_operator.machinery.cache import Cache


def pod(name: str, version: int, uid: str = "u", **labels: str):
    return {
        "metadata": {
            "namespace": "ml",
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {k.replace("_", "/"): v for k, v in labels.items()},
        }
    }


def test_an_older_state_does_not_replace_a_newer_one():
    cache = Cache()
    assert cache.put("Pod", pod("a", 5))
    assert not cache.put("Pod", pod("a", 4))
    assert not cache.put("Pod", pod("a", 5))
    assert cache.get("Pod", "ml", "a")["metadata"]["resourceVersion"] == "5"


def test_versions_are_compared_as_numbers():
    cache = Cache()
    cache.put("Pod", pod("a", 99))
    assert cache.put("Pod", pod("a", 100))


def test_a_late_answer_brings_no_deleted_object_back():
    cache = Cache()
    cache.put("Pod", pod("a", 5))
    cache.remove("Pod", pod("a", 7))
    assert not cache.put("Pod", pod("a", 6))
    assert cache.get("Pod", "ml", "a") is None


def test_a_deletion_of_the_old_object_leaves_the_new_one_of_its_name():
    cache = Cache()
    cache.put("Pod", pod("a", 5, uid="old"))
    cache.put("Pod", pod("a", 8, uid="new"))
    cache.remove("Pod", pod("a", 7, uid="old"))
    assert cache.get("Pod", "ml", "a")["metadata"]["uid"] == "new"


def test_an_object_that_leaves_a_filtered_watch_may_come_back():
    """Taking our label off looks like a deletion; putting it on again is a newer state."""
    cache = Cache()
    cache.put("Pod", pod("a", 5))
    cache.remove("Pod", pod("a", 6))
    assert cache.put("Pod", pod("a", 9))


def test_labels_are_looked_up_and_follow_changes():
    cache = Cache()
    cache.put("Pod", pod("a", 1, uid="a", **{"policyops.dev_training": "t", "app": "x"}))
    cache.put("Pod", pod("b", 2, uid="b", **{"policyops.dev_training": "t", "app": "y"}))
    mine = {"policyops.dev/training": "t"}
    names = lambda labels: [o["metadata"]["name"] for o in cache.list("Pod", "ml", labels)]  # noqa: E731
    assert names(mine) == ["a", "b"]
    assert names({**mine, "app": "y"}) == ["b"]
    assert names({"app": "x"}) == ["a"]
    cache.put("Pod", pod("a", 3, uid="a", **{"policyops.dev_training": "other"}))
    assert names(mine) == ["b"]
    cache.remove("Pod", pod("b", 4, uid="b"))
    assert names(mine) == []
    assert cache.list("Pod", "elsewhere", {"policyops.dev/training": "other"}) == []


def training(name: str, version: int, policy: str, namespace: str = "ml"):
    obj = pod(name, version, uid=name)
    obj["metadata"]["namespace"] = namespace
    return {**obj, "spec": {"policy": policy}}


def test_objects_are_found_by_their_policy_and_follow_its_change():
    cache = Cache()
    for obj in (training("a", 1, "p"), training("b", 2, "q"), training("c", 3, "p", "other")):
        cache.put("PolicyTraining", obj)
    cache.put("Pod", pod("p", 4))

    def names(policy: str) -> list[str]:
        found = cache.of_policy("PolicyTraining", "ml", policy)
        return sorted(obj["metadata"]["name"] for obj in found)

    assert (names("p"), names("q"), names("none")) == (["a"], ["b"], [])
    cache.put("PolicyTraining", training("b", 5, "p"))
    assert (names("p"), names("q")) == (["a", "b"], [])
    cache.remove("PolicyTraining", training("a", 6, "p"))
    assert names("p") == ["b"]
    assert list(cache.of_policy("PolicyVersion", "ml", "p")) == []


def test_managed_fields_are_left_out():
    cache = Cache()
    obj = pod("a", 1)
    obj["metadata"]["managedFields"] = [{"manager": "x"}]
    cache.put("Pod", obj)
    assert "managedFields" not in cache.get("Pod", "ml", "a")["metadata"]
    assert "managedFields" in obj["metadata"]


@given(st.permutations(range(1, 8)), st.integers(1, 7))
def test_the_order_of_events_does_not_matter(order, deleted_at):
    """Seven states of one object, the last but some being its deletion, in any order."""
    cache = Cache()
    for version in order:
        if version > deleted_at:
            continue
        if version == deleted_at:
            cache.remove("Pod", pod("a", version))
        else:
            cache.put("Pod", pod("a", version))
    assert cache.get("Pod", "ml", "a") is None
