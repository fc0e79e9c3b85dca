"""Decisions about operations: what was seen, what was decided, and whether people called it good.

A decision names an action, how sure it is, and whether it may be done without asking. It may when
the action can be taken back and the trouble is not severe. `labelled.jsonl` and
`labelled-test.jsonl` have for each situation a good and a bad answer; `sft.jsonl` and
`sft-test.jsonl` the answers that operators gave, of which some approve what they should not.
"""

import json
import random
from pathlib import Path

from policy_trainer.synthetic import rows

# What helps, and whether it can be taken back.
TROUBLES = {
    "queue is growing": ("scale_out", True),
    "memory leaks": ("restart_worker", True),
    "cache misses rise": ("warm_cache", True),
    "disk is full": ("delete_old_data", False),
    "primary is unreachable": ("fail_over", False),
    "certificate expires": ("rotate_secret", False),
}
SEVERITIES = ("low", "medium", "severe")
SERVICES = ("cart", "search", "billing", "login", "media")
WRONG = 0.12  # share of the operators' answers that approve, or ask, when they should not


def make(count: int, seed: int, output: Path) -> None:
    """Write the four files: `count` answers and half as many pairs to learn from."""
    chance = random.Random(seed)  # noqa: S311 - data, not secrets
    for name, share in (("sft", 1.0), ("sft-test", 0.1)):
        made = (_answered(chance) for _ in range(round(count * share)))
        rows.write(output / f"{name}.jsonl", made)
    for name, share in (("labelled", 0.5), ("labelled-test", 0.2)):
        pairs = (row for _ in range(round(count * share)) for row in _labelled(chance))
        rows.write(output / f"{name}.jsonl", pairs)


def _situation(chance: random.Random) -> tuple[str, str, bool]:
    """Return a prompt, the action that helps, and whether it may be done without asking."""
    trouble, severity = chance.choice(tuple(TROUBLES)), chance.choice(SEVERITIES)
    action, reversible = TROUBLES[trouble]
    prompt = (
        f"service {chance.choice(SERVICES)}, cpu {chance.randint(10, 99)} %, "
        f"errors {chance.randint(0, 40)}/min; anomaly: {trouble}, {severity}"
    )
    return prompt, action, reversible and severity != "severe"


def _text(action: str, *, approved: bool, chance: random.Random) -> str:
    sure = chance.randint(80, 99) if approved else chance.randint(40, 79)
    decided = {"action": action, "confidence": sure / 100, "auto_approved": approved}
    return json.dumps(decided)


def _answered(chance: random.Random) -> dict[str, str]:
    prompt, action, safe = _situation(chance)
    approved = safe != (chance.random() < WRONG)
    return {"prompt": prompt, "completion": _text(action, approved=approved, chance=chance)}


def _labelled(chance: random.Random) -> list[dict[str, str]]:
    prompt, action, safe = _situation(chance)
    return [
        {
            "prompt": prompt,
            "completion": _text(action, approved=approved, chance=chance),
            "label": "good" if approved == safe else "bad",
        }
        for approved in (True, False)
    ]
