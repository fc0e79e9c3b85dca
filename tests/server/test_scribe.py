"""The engine of policies that write: answers begin and end while others are written."""

import asyncio
from contextlib import aclosing

import pytest
from policy_models.decision import Decision, Refusal
from policy_server.engine.asking import EngineFailedError, OverloadedError
from policy_server.engine.writing import Scribe
from server.scripted import asked, until
from server.typist import Typist


@pytest.fixture
def engine():
    return Typist()


@pytest.fixture
async def scribe(engine):
    scribe = Scribe(engine, queue_limit=8, batch_limit=4)
    worker = asyncio.create_task(scribe.run())
    yield scribe
    engine.stepwise = False
    engine.steps.release(1000)
    worker.cancel()
    await asyncio.wait([worker])


def start(scribe: Scribe, prompt: str) -> asyncio.Task:
    return asyncio.create_task(scribe.ask(asked(prompt)))


def said(outcome: Decision) -> str:
    return outcome.ranking[0].action


async def test_a_short_answer_does_not_wait_for_a_long_one(engine, scribe):
    engine.stepwise = True
    long = start(scribe, f"say {'a' * 50}")
    await until(lambda: len(engine.writing) == 1)
    short = start(scribe, "say abc")
    while not short.done():
        engine.steps.release()
        await asyncio.sleep(0)
    assert said(await short) == "abc"
    assert not long.done()
    assert engine.most == 2
    engine.steps.release(100)
    assert said(await long) == "a" * 50


async def test_at_most_so_many_are_written_at_once(engine, scribe):
    engine.stepwise = True
    tasks = [start(scribe, f"say {'abcdefgh'[: n + 2]}") for n in range(6)]
    engine.steps.release(100)
    assert [said(one) for one in await asyncio.gather(*tasks)] == [
        "abcdefgh"[: n + 2] for n in range(6)
    ]
    assert engine.most == 4


async def test_where_none_may_join_each_waits_for_the_end_but_ends_alone():
    engine = Typist(open_always=False)
    scribe = Scribe(engine, queue_limit=8, batch_limit=4)
    worker = asyncio.create_task(scribe.run())
    tasks = [start(scribe, f"say {text}") for text in ("abcdef", "ab")]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(engine.began.wait, 10)
    late = start(scribe, "say xyz")
    await asyncio.gather(*tasks, late)
    assert engine.most == 2
    worker.cancel()
    await asyncio.wait([worker])


async def test_what_needs_no_writing_is_told_at_once(scribe):
    outcomes = await asyncio.gather(start(scribe, "say ab"), start(scribe, "refuse"))
    assert said(outcomes[0]) == "ab"
    assert isinstance(outcomes[1], Refusal)


async def test_one_that_can_not_begin_fails_alone(scribe):
    outcomes = await asyncio.gather(
        *(start(scribe, prompt) for prompt in ("say ab", "raise", "say cd")),
        return_exceptions=True,
    )
    assert [said(outcomes[0]), said(outcomes[2])] == ["ab", "cd"]
    assert isinstance(outcomes[1], EngineFailedError)
    assert str(outcomes[1]) == "RuntimeError: the weights are upside down"


async def test_one_that_fails_midway_fails_alone(engine, scribe):
    outcomes = await asyncio.gather(
        *(start(scribe, prompt) for prompt in ("say abcd", "fail", "say efgh")),
        return_exceptions=True,
    )
    assert [said(outcomes[0]), said(outcomes[2])] == ["abcd", "efgh"]
    assert isinstance(outcomes[1], EngineFailedError)
    assert said(await scribe.ask(asked("say again"))) == "again"


async def test_a_stream_says_text_and_then_the_outcome(scribe):
    got = [one async for one in scribe.stream(asked("say abcde"))]
    *texts, outcome = got
    assert len(texts) > 1
    assert "".join(texts) == said(outcome) == "abcde"


async def test_a_stream_that_was_read_from_is_not_begun_again(engine, scribe):
    engine.stepwise = True
    texts = []

    async def read():
        async with aclosing(scribe.stream(asked("fail please"))) as stream:
            async for one in stream:
                texts.append(one)  # noqa: PERF401 - what was read before it failed

    reader = asyncio.create_task(read())
    other = start(scribe, "say abcd")
    engine.steps.release(100)
    with pytest.raises(EngineFailedError):
        await reader
    assert texts
    assert said(await other) == "abcd"


async def test_nothing_is_written_for_a_caller_that_went_away(engine, scribe):
    engine.stepwise = True
    gone, stays = start(scribe, f"say {'a' * 500}"), start(scribe, "say bcd")
    await until(lambda: len(engine.writing) == 2)
    gone.cancel()
    engine.steps.release(3)
    assert said(await stays) == "bcd"
    await until(lambda: bool(engine.left))
    assert [one.text for one in engine.left] == ["a" * 500]


async def test_a_full_queue_refuses_at_once_and_who_leaves_makes_room(engine, scribe):
    engine.stepwise = True
    begun = [start(scribe, "say abc") for _ in range(4)]
    await until(lambda: len(engine.writing) == 4)
    waiting = [start(scribe, "say abc") for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await scribe.ask(asked("say one too many"))
    waiting.pop().cancel()
    await asyncio.sleep(0)
    waiting.append(start(scribe, "say last"))
    engine.steps.release(100)
    outcomes = await asyncio.gather(*begun, *waiting)
    assert said(outcomes[-1]) == "last"


async def test_a_step_that_does_not_end_is_seen(engine, scribe):
    assert scribe.busy_seconds == 0
    engine.stepwise = True
    task = start(scribe, "say abc")
    await until(lambda: scribe.busy_seconds > 0.05)
    engine.steps.release(100)
    await task
    assert scribe.busy_seconds == 0
