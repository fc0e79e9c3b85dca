"""Plans that a planner made, and what people said of them.

People like plans that are concrete, tested and reversible; they say so in words and tags, mostly. A
tenth of what they say is the opposite of what they would say another day, and some of it says
neither. Three files: `train.jsonl`, `validation.jsonl` and `test.jsonl`.
"""

import random
from pathlib import Path
from typing import Any

from policy_examples import rows

GOALS = ("move the database", "add a login", "cut the bill", "speed up the search", "fix the queue")
STEPS = ("read the logs", "write the change", "ask the owner", "roll it out", "watch the graphs")
LIKED = ("add a test", "make a backup first", "roll back on errors", "measure before and after")
DISLIKED = (
    "do it all at once",
    "skip the review",
    "edit production by hand",
    "figure it out later",
)
SAID = {
    True: ("good plan", "great", "helpful", "+1", "accept, this is correct"),
    False: ("not good", "wrong order", "bad idea", "-1", "worse than before", "reject"),
    None: ("hm", "let me think", "maybe"),
}
NOISE, SILENT = 0.1, 0.1


def make(count: int, seed: int, output: Path) -> None:
    """Write the three files: `count` plans to learn from, a quarter of that for each other."""
    for name, share in (("train", 1.0), ("validation", 0.25), ("test", 0.25)):
        chance = random.Random(f"{seed} {name}")  # noqa: S311 - data, not secrets
        rows.write(output / f"{name}.jsonl", (_row(chance) for _ in range(round(count * share))))


def _row(chance: random.Random) -> dict[str, Any]:
    goods, bads = chance.randint(0, 2), chance.randint(0, 2)
    steps = chance.sample(LIKED, goods) + chance.sample(DISLIKED, bads) + chance.sample(STEPS, 3)
    chance.shuffle(steps)
    liked: bool | None = goods > bads if goods != bads else chance.random() < 0.5  # noqa: PLR2004
    if chance.random() < NOISE:
        liked = not liked
    if chance.random() < SILENT:
        liked = None
    tags = [] if liked is None or chance.random() < 0.7 else ["pos" if liked else "neg"]  # noqa: PLR2004
    return {
        "prompt": f"Plan how to {chance.choice(GOALS)}.",
        "plan": "; ".join(f"{n}. {step}" for n, step in enumerate(steps, start=1)),
        "feedback": chance.choice(SAID[liked]),
        "tags": tags,
    }
