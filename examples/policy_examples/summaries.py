"""Summaries of operations decisions for the person on call, and what people think of them.

A summary proposes an action and rates its risk. Either may be done well or badly; how is in the
words alone, so that a judge of random weights learns it within a minute. Whether an action fits
*this* anomaly is beyond such a judge.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from policy_api.v1alpha1.judge import Criterion
from policy_trainer.data import Row
from policy_trainer.judge import lessons

from policy_examples import rows

CRITERIA = (
    Criterion(
        name="action_appropriateness", description="The action helps and does no harm by itself."
    ),
    Criterion(
        name="risk_assessment_accuracy", description="It says what can go wrong and how to undo it."
    ),
)
ACTIONS = {
    True: ("Add two workers", "Restart one worker", "Warm the cache", "Move reads to the replica"),
    False: ("Reboot everything", "Drop all traffic", "Wipe the disks", "Turn the alarm off"),
}
RISKS = {
    True: (
        "Users see errors for a minute; undo it by scaling back.",
        "Requests are slower meanwhile; undo it with one command.",
    ),
    False: ("There is no risk at all, trust me.", "Nothing can happen, so never mind."),
}
ANOMALIES = ("queue is growing", "memory leaks", "cache misses rise", "primary is unreachable")
SERVICES = ("cart", "search", "billing", "login", "media")
GOOD, BAD = 9, 2  # how people rate by a criterion


def write(count: int, seed: int, output: Path) -> None:
    """Write the rows that a judge learns from, and those that it is tried on.

    `judge.jsonl` and `judge-test.jsonl` are for recipe SFT. `summaries.jsonl` has prompts with four
    summaries each, `summaries-test.jsonl` pairs that people have put in order.
    """
    chance = random.Random(seed)  # noqa: S311 - data, not secrets
    for name, share in (("judge", 0.2), ("judge-test", 0.02)):
        number = round(count * share)
        made = [*(_rated(chance) for _ in range(number)), *_pairs(chance, number)]
        taught = lessons.teach(CRITERIA, made)
        chance.shuffle(taught)
        rows.write(output / f"{name}.jsonl", taught)
    asked = ({"prompt": _prompt(chance), "completions": _four(chance)} for _ in range(40))
    rows.write(output / "summaries.jsonl", asked)
    rows.write(output / "summaries-test.jsonl", _pairs(chance, 60))


def _prompt(chance: random.Random) -> str:
    return f"service {chance.choice(SERVICES)}; anomaly: {chance.choice(ANOMALIES)}"


def _summary(chance: random.Random, *, action: bool, risk: bool) -> str:
    return f"{chance.choice(ACTIONS[action])}. {chance.choice(RISKS[risk])}"


def _rated(chance: random.Random) -> Row:
    action, risk = _coin(chance), _coin(chance)
    given = dict(zip((c.name for c in CRITERIA), (action, risk), strict=True))
    return {
        "prompt": _prompt(chance),
        "completion": _summary(chance, action=action, risk=risk),
        "ratings": {name: GOOD if good else BAD for name, good in given.items()},
    }


def _pairs(chance: random.Random, count: int) -> Iterator[Row]:
    for _ in range(count):
        action = _coin(chance)
        worse = _summary(chance, action=action, risk=not action and _coin(chance))
        better = _summary(chance, action=True, risk=True)
        yield {"prompt": _prompt(chance), "chosen": better, "rejected": worse}


def _four(chance: random.Random) -> list[str]:
    return [_summary(chance, action=_coin(chance), risk=_coin(chance)) for _ in range(4)]


def _coin(chance: random.Random) -> bool:
    return chance.choice((True, False))
