"""Decisions about operations: what was seen, what was decided, and whether people called it good.

A decision names an action, how sure it is, and whether it may be done without asking. It may when
the action can be taken back and the trouble is not severe. As logged, `{input, output, label}`:
`labeled_decisions.jsonl` has for each situation a good and a bad answer, `decisions.jsonl` the
answers that operators gave, without a label, of which some approve what they should not.
"""

import random
from pathlib import Path
from typing import Any

from policy_examples import rows, summaries

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
WHY = {True: "can be taken back", False: "a person should look"}
WRONG = 0.12  # share of the operators' answers that approve, or ask, when they should not


def make(count: int, seed: int, output: Path) -> None:
    """Write both files, about `count` answers and half as many labelled pairs, and summaries."""
    chance = random.Random(seed)  # noqa: S311 - data, not secrets
    answered = (_answered(number, chance) for number in range(round(1.1 * count)))
    rows.write(output / "decisions.jsonl", answered)
    pairs = (row for number in range(round(0.7 * count)) for row in _labelled(number, chance))
    rows.write(output / "labeled_decisions.jsonl", pairs)
    summaries.write(count, seed, output)


def _situation(number: int, chance: random.Random) -> tuple[dict[str, Any], str, bool]:
    """Return an input, the action that helps, and whether it may be done without asking."""
    trouble, severity = chance.choice(tuple(TROUBLES)), chance.choice(SEVERITIES)
    action, reversible = TROUBLES[trouble]
    seen = {
        "snapshot_id": f"snap-{number:04d}",
        "anomalies": [trouble],
        "analysis": {
            "service": chance.choice(SERVICES),
            "severity": severity,
            "cpu_percent": chance.randint(10, 99),
            "errors_per_minute": chance.randint(0, 40),
        },
    }
    return seen, action, reversible and severity != "severe"


def _output(action: str, *, approved: bool, chance: random.Random) -> dict[str, Any]:
    sure = chance.randint(80, 99) if approved else chance.randint(40, 79)
    decided = {"type": action, "confidence": sure / 100, "auto_approved": approved}
    return {"actions": [{"id": "0", **decided, "reasoning": WHY[approved]}]}


def _answered(number: int, chance: random.Random) -> dict[str, Any]:
    seen, action, safe = _situation(number, chance)
    approved = safe != (chance.random() < WRONG)
    return {"input": seen, "output": _output(action, approved=approved, chance=chance)}


def _labelled(number: int, chance: random.Random) -> list[dict[str, Any]]:
    seen, action, safe = _situation(number, chance)
    return [
        {
            "input": seen,
            "output": _output(action, approved=approved, chance=chance),
            "label": "good" if approved == safe else "bad",
        }
        for approved in (True, False)
    ]
