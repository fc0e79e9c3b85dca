"""The queue: once for many adds, never twice at once, again after a failure, and at a time."""

import asyncio
import contextlib
import itertools
from collections import Counter
from datetime import timedelta

import pytest
from clockwork import Loop, play
from hypothesis import given
from hypothesis import strategies as st
from policy_operator.machinery.queue import Key, Queue, backoff

A = Key("PolicyTraining", "ml", "a")
B = Key("PolicyTraining", "ml", "b")


@contextlib.asynccontextmanager
async def working(queue: Queue, reconcile, workers: int = 4):
    """Run the queue's workers during the block."""
    task = asyncio.create_task(queue.run(reconcile, workers))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_many_adds_are_one_reconcile():
    async def story(loop: Loop) -> None:
        seen = []

        async def reconcile(key):
            seen.append(key)

        queue = Queue(loop.now)
        for _ in range(5):
            queue.add(A)
        queue.add(B)
        async with working(queue, reconcile):
            await asyncio.sleep(1)
        assert seen == [A, B]

    play(story)


def test_an_add_during_the_reconcile_is_one_more_and_never_beside_it():
    async def story(loop: Loop) -> None:
        running, most, count = 0, 0, 0

        async def reconcile(_):
            nonlocal running, most, count
            running += 1
            count += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            queue.add(A)
            await asyncio.sleep(0.5)
            for _ in range(3):
                queue.add(A)
            await asyncio.sleep(5)
        assert (count, most) == (2, 1)

    play(story)


def test_different_keys_run_side_by_side_up_to_the_number_of_workers():
    async def story(loop: Loop) -> None:
        running, most = 0, 0

        async def reconcile(_):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        queue = Queue(loop.now)
        for number in range(10):
            queue.add(Key("PolicyTraining", "ml", str(number)))
        async with working(queue, reconcile, workers=3):
            await asyncio.sleep(3.5)
            assert running == 1
        assert most == 3

    play(story)


def test_a_failure_is_tried_again_after_a_growing_delay_and_forgotten_after_a_success():
    async def story(loop: Loop) -> None:
        at = []

        async def reconcile(_):
            at.append(loop.time())
            if len(at) <= 3:
                raise OSError("refused")

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            queue.add(A)
            await asyncio.sleep(10)
            queue.add(A)
            await asyncio.sleep(1)
        gaps = [round(b - a, 3) for a, b in itertools.pairwise(at)]
        assert gaps[:3] == [0.1, 0.2, 0.4]
        assert len(at) == 5

    play(story)


def test_the_returned_time_is_the_next_reconcile():
    async def story(loop: Loop) -> None:
        at = []

        async def reconcile(_):
            at.append(loop.time())
            return loop.now() + timedelta(hours=1) if len(at) < 3 else None

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            queue.add(A)
            await asyncio.sleep(6 * 3600)
        assert at == [0, pytest.approx(3600), pytest.approx(7200)]

    play(story)


def test_the_earliest_of_several_times_wins_and_a_past_one_is_now():
    async def story(loop: Loop) -> None:
        at = []

        async def reconcile(_):
            at.append(loop.time())

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            for seconds in (50, 20, 30):
                queue.add_at(A, loop.now() + timedelta(seconds=seconds))
            queue.add_at(B, loop.now() - timedelta(seconds=1))
            await asyncio.sleep(100)
        assert at == [0, pytest.approx(20)]

    play(story)


def test_a_reconcile_voids_the_timer_that_was_set_before_it():
    async def story(loop: Loop) -> None:
        at = []

        async def reconcile(_):
            at.append(loop.time())

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            queue.add_at(A, loop.now() + timedelta(seconds=50))
            queue.add(A)
            await asyncio.sleep(100)
        assert at == [0]

    play(story)


@given(st.integers(min_value=1, max_value=10_000))
def test_backoff_grows_and_stays_within_a_minute(failures):
    assert 0 < backoff(failures) <= backoff(failures + 1) <= 60


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5), st.booleans()), min_size=1, max_size=30)
)
def test_whatever_is_added_is_reconciled_after_it_was_added(adds):
    """The promise of a level-triggered queue: the last add of each key is followed by a run."""

    async def story(loop: Loop) -> None:
        added: dict[Key, float] = {}
        started: dict[Key, float] = {}
        fails = Counter()

        async def reconcile(key):
            started[key] = loop.time()
            await asyncio.sleep(0.3)
            if fails[key] > 0:
                fails[key] -= 1
                raise OSError("refused")

        queue = Queue(loop.now)
        async with working(queue, reconcile, workers=2):
            for number, pause, fail in adds:
                key = Key("PolicyTraining", "ml", str(number))
                fails[key] += fail
                queue.add(key)
                added[key] = loop.time()
                await asyncio.sleep(pause)
            await asyncio.sleep(10_000)
        assert set(started) == set(added)
        assert all(started[key] >= added[key] for key in added)
        assert not any(fails.values())

    play(story)


def test_in_a_burst_new_keys_go_first_and_known_ones_follow_when_it_is_over():
    async def story(loop: Loop) -> None:
        seen = []

        async def reconcile(key):
            seen.append((key.name, loop.time()))

        queue = Queue(loop.now)
        known = [Key("PolicyTraining", "ml", f"known-{n}") for n in range(3)]
        for key in known:
            queue.add(key)
        async with working(queue, reconcile, workers=2):
            await asyncio.sleep(1)
            seen.clear()
            for n in range(20):
                queue.add(Key("PolicyTraining", "ml", f"new-{n}"))
                if n == 3:
                    for key in known:
                        queue.add(key)
                await asyncio.sleep(0.02)
            assert queue.crowded
            asked = loop.time()
            await queue.uncrowded()
            assert 0 < loop.time() - asked <= 0.1
            assert not queue.crowded
            await asyncio.sleep(0.1)
        assert [name for name, _ in seen[:20]] == [f"new-{n}" for n in range(20)]
        assert sorted(name for name, _ in seen[20:]) == [k.name for k in known]
        assert seen[-1][1] - seen[19][1] <= 0.15

    play(story)


def test_in_a_burst_without_an_end_no_known_key_starves():
    async def story(loop: Loop) -> None:
        seen, began = [], {}

        async def reconcile(key):
            seen.append(key.name)
            if key in began:
                waits.append(loop.time() - began.pop(key))

        waits: list[float] = []
        queue = Queue(loop.now)
        known = [Key("PolicyDeployment", "ml", f"known-{n}") for n in range(20)]
        for key in known:
            queue.add(key)
        async with working(queue, reconcile, workers=1):
            await asyncio.sleep(1)
            seen.clear()
            for n in range(500):
                queue.add(Key("PolicyTraining", "ml", f"new-{n}"))
                for key in known if n == 3 else ():
                    queue.add(key)
                    began[key] = loop.time()
                await asyncio.sleep(0.02)
        assert len(waits) == len(known)
        assert min(waits) >= 1
        assert max(waits) <= 6
        assert seen.index("known-1") - seen.index("known-0") == 8

    play(story)


def test_the_first_keys_of_a_calm_day_do_not_hold_known_ones_up():
    async def story(loop: Loop) -> None:
        seen = []

        async def reconcile(key):
            seen.append(key)
            if len(seen) == 1:
                queue.add(key)

        queue = Queue(loop.now)
        async with working(queue, reconcile, workers=1):
            queue.add(A)
            await asyncio.sleep(0.001)
            assert seen == [A, A]
            await queue.uncrowded()
            assert loop.time() < 0.01

    play(story)


def test_a_forgotten_key_is_new_again():
    async def story(loop: Loop) -> None:
        seen = []

        async def reconcile(key):
            seen.append(key)
            if key == A:
                queue.forget(key)

        queue = Queue(loop.now)
        async with working(queue, reconcile, workers=1):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(1)
            seen.clear()
            queue.add(B)
            queue.add(A)
            await asyncio.sleep(1)
        assert seen == [A, B]

    play(story)


def test_the_loop_turns_between_every_two_keys():
    """Reconciles that change nothing never wait: the Lease, probes and alerts would."""

    async def story(loop: Loop) -> None:
        done, at_once, most = 0, 0, 0

        async def reconcile(_):
            nonlocal done, at_once
            done += 1
            at_once += 1

        async def tick():
            nonlocal at_once, most
            while done < 1000:
                most = max(most, at_once)
                at_once = 0
                await asyncio.sleep(0)

        queue = Queue(loop.now)
        for number in range(1000):
            queue.add(Key("PolicyTraining", "ml", str(number)))
        async with working(queue, reconcile, workers=16):
            await tick()
        assert most == 1

    play(story)


def test_no_key_is_started_while_something_urgent_is_done_but_for_long():
    async def story(loop: Loop) -> None:
        at = []

        async def reconcile(_):
            at.append(loop.time())

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            with queue.give_way():
                queue.add(A)
                await asyncio.sleep(0.5)
                assert not at
            await asyncio.sleep(0.1)
            assert at == [0.5]
            with queue.give_way():
                queue.add(A)
                await asyncio.sleep(5)
            assert at[1:] == [pytest.approx(1.6)], "what hangs holds nothing up for ever"

    play(story)


def test_what_failed_is_tried_again_when_what_was_in_the_way_is_gone():
    async def story(loop: Loop) -> None:
        away, at = True, []

        async def reconcile(_):
            if away:
                raise OSError("refused")
            at.append(loop.time())

        queue = Queue(loop.now)
        async with working(queue, reconcile):
            queue.add(A)
            await asyncio.sleep(200)
            away = False
            queue.retry_failed()
            await asyncio.sleep(1)
        assert at == [200]

    play(story)
