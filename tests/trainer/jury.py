"""A small world of changes to services: a careful change is good, whatever it changes."""

import json
import random
from pathlib import Path
from typing import Any

from policy_api.v1alpha1.judge import Criterion
from policy_trainer.judge import lessons as lessons_
from policy_trainer.judge import prompts

CRITERIA = [Criterion(name="safety", description="It can be undone.")]
SERVICES = ("cart", "search", "billing", "login", "media")
ACTIONS = ("Deploy it", "Restart it", "Scale it out", "Warm the cache")
CAREFUL = ", keep the old one, test it and plan a rollback"
CARELESS = ", delete the old one, skip every check and hope for luck"
REASONS = {"good": "It can be taken back.", "bad": "There is no way to return."}


def labelled(count: int, seed: int) -> list[dict[str, str]]:
    """Return answers that people called good or bad."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        good = chance.random() < 0.5
        answer = chance.choice(ACTIONS) + (CAREFUL if good else CARELESS)
        answer += chance.choice((" now.", " at night.", " soon."))
        prompt = f"The {chance.choice(SERVICES)} is slow"
        label = "good" if good else "bad"
        made.append({"prompt": prompt, "completion": answer, "label": label})
    return made


def paired(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return each good answer beside a bad one."""
    good, bad = (
        [r["completion"] for r in rows if r["label"] == label] for label in ("good", "bad")
    )
    return [
        {"prompt": "The cart is slow", "chosen": chosen, "rejected": rejected}
        for chosen, rejected in zip(good, bad, strict=False)
    ]


def lessons(count: int, seed: int) -> list[dict[str, Any]]:
    """Return what a judge learns from: to rate and to compare in one word, and to rate in JSON."""
    rows = labelled(count, seed)
    made = lessons_.teach(CRITERIA, [*rows, *paired(rows)])
    for row in rows[::3]:  # in JSON there are more words to learn from
        asked = prompts.chat(prompts.Rate(row["prompt"], row["completion"]), CRITERIA)
        ratings = {"safety": lessons_.EXTREMES[row["label"]]}
        said = json.dumps({"reason": REASONS[row["label"]], "ratings": ratings})
        made.append({"messages": [*asked, {"role": "assistant", "content": said}]})
    random.Random(seed).shuffle(made)
    return made


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
