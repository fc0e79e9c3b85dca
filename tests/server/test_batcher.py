import asyncio

import pytest
from policy_models.decision import Decision
from policy_server.engine.asking import EngineFailedError, OverloadedError
from policy_server.engine.batching import Batcher
from server.scripted import GOOD, Scripted, asked


@pytest.fixture
def engine():
    return Scripted()


@pytest.fixture
async def batcher(engine):
    batcher = Batcher(engine, queue_limit=8, batch_limit=4, wait_seconds=0.05)
    worker = asyncio.create_task(batcher.run())
    yield batcher
    engine.hold.set()
    worker.cancel()
    await asyncio.wait([worker])


def ask(batcher: Batcher, *prompts: str):
    return asyncio.gather(
        *(batcher.ask(asked(prompt)) for prompt in prompts), return_exceptions=True
    )


async def test_questions_that_arrive_together_are_one_batch(engine, batcher):
    answers = await ask(batcher, "a", "bad b", "c")
    assert engine.batches == [3]
    assert [answer.ranking[0].action for answer in answers] == [GOOD, "no score here, sorry", GOOD]


async def test_a_batch_has_at_most_its_limit(engine, batcher):
    await ask(batcher, *"abcdef")
    assert engine.batches == [4, 2]


async def test_one_failing_question_fails_alone(engine, batcher):
    first, second, third = await ask(batcher, "a", "raise", "c")
    assert isinstance(first, Decision)
    assert isinstance(third, Decision)
    assert isinstance(second, EngineFailedError)
    assert str(second) == "RuntimeError: the weights are upside down"
    assert engine.batches == [3, 1, 1, 1]


async def test_a_full_queue_refuses_at_once_and_recovers(engine, batcher):
    engine.hold.clear()
    taken = [asyncio.create_task(batcher.ask(asked("x"))) for _ in range(4)]
    assert await asyncio.to_thread(engine.busy.wait, 10)
    waiting = [asyncio.create_task(batcher.ask(asked("x"))) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await batcher.ask(asked("one too many"))
    engine.hold.set()
    assert [answer.ranking[0].action for answer in await asyncio.gather(*taken, *waiting)] == [
        GOOD
    ] * 12
    assert isinstance(await batcher.ask(asked("again")), Decision)


async def test_a_caller_that_went_away_does_not_disturb_the_others(engine, batcher):
    engine.hold.clear()
    gone = asyncio.create_task(batcher.ask(asked("x")))
    stays = asyncio.create_task(batcher.ask(asked("y")))
    assert await asyncio.to_thread(engine.busy.wait, 10)
    gone.cancel()
    engine.hold.set()
    assert (await stays).ranking[0].action == GOOD


async def test_what_nobody_waits_for_is_not_computed(engine, batcher):
    engine.hold.clear()
    first = [asyncio.create_task(batcher.ask(asked("x"))) for _ in range(4)]
    assert await asyncio.to_thread(engine.busy.wait, 10)
    gone = [asyncio.create_task(batcher.ask(asked("y"))) for _ in range(4)]
    stays = asyncio.create_task(batcher.ask(asked("z")))
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    engine.hold.set()
    await asyncio.gather(*first, stays)
    assert engine.batches == [4, 1]
