"""Reviews of tokens: remembered, limited, and room for every pod that runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_operator.access.auth import Limited, PodIdentity, Trainers
from policy_operator.access.limits import Limiter, Rate
from policy_operator.machinery.cache import Cache
from policy_operator.machinery.errors import ApiError


class Reviews:
    """Answers TokenReviews: token `pod-7` is that pod's, `pod-7:next` as well; others are none."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    async def create(self, manifest):
        token = manifest["spec"]["token"]
        self.asked.append(token)
        if self.broken:
            raise ApiError(500, "InternalError", "etcd is away", "POST")
        name = token.partition(":")[0]
        if not name.startswith("pod-"):
            return {"status": {"authenticated": False}}
        extra = {
            "authentication.kubernetes.io/pod-name": [name],
            "authentication.kubernetes.io/pod-uid": [f"uid-{name}"],
        }
        user = {"username": "system:serviceaccount:ml:default", "extra": extra}
        return {"status": {"authenticated": True, "audiences": ["us"], "user": user}}


class World:
    """Pods 0 to n-1, who call by their tokens."""

    def __init__(self, pods: int = 0) -> None:
        self.now = 0.0
        self.reviews, self.cache = Reviews(), Cache()
        for number in range(pods):
            self.add(number)
        self.trainers = Trainers(self.reviews, self.cache, "us", lambda: self.now)

    def add(self, number: int) -> None:
        name = f"pod-{number}"
        meta = {"namespace": "ml", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        self.cache.put("Pod", {"metadata": meta})

    async def ask(self, token: str, source: str = "10.0.0.1") -> PodIdentity | None:
        return await self.trainers.identify(token, source)

    async def refused(self, token: str, source: str = "10.0.0.1") -> float:
        """Ask, and return the seconds that one has to wait; 0 when a review was made."""
        try:
            await self.ask(token, source)
        except Limited as limited:
            return limited.seconds
        return 0.0


async def test_every_pod_that_runs_is_reviewed_once_a_minute():
    world = World(pods=5000)
    for _ in range(3):
        for number in range(5000):
            assert await world.ask(f"pod-{number}") is not None
        world.now += 15
    assert len(world.reviews.asked) == 5000
    world.now += 60
    await world.ask("pod-7")
    assert world.reviews.asked[5000:] == ["pod-7"]


async def test_a_pods_next_token_takes_the_place_of_the_last():
    world = World(pods=1)
    for number in range(1000):
        await world.ask(f"pod-0:{number}")
    assert len(world.trainers._believed) == 1
    await world.ask("pod-0:0")
    assert len(world.reviews.asked) == 1001


async def test_tokens_of_pods_that_are_gone_make_room():
    world = World(pods=500)
    for number in range(500):
        await world.ask(f"pod-{number}")
    for number in range(499):
        world.cache.remove("Pod", world.cache.get("Pod", "ml", f"pod-{number}"))
    await world.ask("pod-499:next")
    assert len(world.trainers._believed) == len(world.trainers._newest) == 101


async def test_a_token_that_is_no_good_is_not_reviewed_again_at_once():
    world = World()
    for _ in range(100):
        assert await world.ask("garbage") is None
    assert world.reviews.asked == ["garbage"]
    world.now += 11
    await world.ask("garbage")
    assert len(world.reviews.asked) == 2


async def test_a_pod_that_is_known_later_is_recognized_without_another_review():
    world = World()
    pod = await world.ask("pod-1")
    world.add(1)
    assert await world.ask("pod-1") == pod
    assert len(world.reviews.asked) == 1


async def test_a_flood_of_garbage_from_one_address_is_stopped_and_told_how_long():
    world = World(pods=1)
    waits = [await world.refused(f"garbage-{n}") for n in range(1000)]
    assert len(world.reviews.asked) == 50
    assert max(waits) == pytest.approx(0.2)
    world.now += 0.2
    assert await world.refused("garbage-again") == 0
    assert await world.refused("pod-0", "10.0.0.2") == 0


async def test_a_flood_from_everywhere_is_stopped_as_well():
    world = World()
    for number in range(5000):
        await world.refused(f"garbage-{number}", f"10.0.{number % 250}.{number // 250}")
    assert len(world.reviews.asked) == 200
    world.now += 1
    for number in range(5000):
        await world.refused(f"more-{number}", f"10.1.{number % 250}.{number // 250}")
    assert len(world.reviews.asked) == 250


async def test_a_flood_does_not_keep_a_known_trainer_from_being_reviewed_again():
    world = World(pods=1)
    await world.ask("pod-0")
    for number in range(1000):
        await world.refused(f"garbage-{number}")
    world.now += 60
    for number in range(1000):
        await world.refused(f"more-{number}")
    assert await world.ask("pod-0") is not None


async def test_tokens_of_pods_that_are_none_of_ours_count_as_no_good():
    world = World()
    for number in range(1000):
        await world.refused(f"pod-{number}")
    assert len(world.reviews.asked) == 50
    assert not world.trainers._believed


async def test_an_api_server_that_is_away_is_not_asked_without_end():
    world = World(pods=1000)
    world.reviews.broken = True
    for number in range(1000):
        with pytest.raises((ApiError, Limited)):
            await world.ask(f"pod-{number}")
    assert len(world.reviews.asked) == 50


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc")), max_size=60))
async def test_nobody_takes_more_than_the_rate(asks):
    now = [0.0]
    limiter = Limiter(lambda: now[0], Rate(3, 1), Rate(5, 2))
    taken = dict.fromkeys("abc", 0)
    for pause, source in asks:
        now[0] += pause
        taken[source] += limiter.take(source) == 0
        assert taken[source] <= 3 + now[0] + 1e-6
        assert sum(taken.values()) <= 5 + 2 * now[0] + 1e-6
