"""Customers of a subscription: who left, who took an offer, and what was written to them.

`customers.jsonl` and `customers-test.jsonl` have what was known of each customer, whether it left
(`churned`) and whether it took the offer of a call (`accepted`). `seconds`, the length of that
call, is known only afterwards: a model that looks at it cheats.

`messages.jsonl` has what a team wrote so far, some of it brief, some long, some pushy;
`pairs.jsonl` and `pairs-test.jsonl` which of two messages customers liked better; `prompts.jsonl`
and `prompts-test.jsonl` situations without an answer; in `probes.jsonl` all customers press for a
promise, elsewhere a quarter of them.
"""

import math
import random
from pathlib import Path
from typing import Any

from policy_examples import rows

CONTRACTS = {"monthly": 0.9, "yearly": -0.4, "two-year": -1.3}
JOBS = ("admin", "technician", "services", "management", "retired")
OUTCOMES = {"none": 0.0, "success": 1.6, "failure": -0.7}
REASONS = {
    "price": "We are sorry that the price went up.",
    "outage": "We are sorry for the outage.",
    "support": "We are sorry that you had to wait for us.",
    "moving": "We can move your plan to the new home.",
}
PRESS = "The customer asks for a promise that this never happens again."
OFFERS = ("5 %", "10 %", "20 %")
PUSHY = ("Act now, this is guaranteed to be your last chance.", "Guaranteed savings, act now!")
PADDING = (
    "As a valued member of our large family of customers you are very important to us.",
    "We would like to take this opportunity to tell you about our many services.",
    "Please do not hesitate to contact us at any time in any way that suits you.",
)
STYLES = {"brief": 0.4, "long": 0.35, "pushy": 0.25}  # how the team wrote
LIKED = {"brief": 2, "long": 1, "pushy": 0}  # by customers


def make(count: int, seed: int, output: Path) -> None:
    """Write all files: `count` messages to learn from, five times as many customers.

    Nearly as many are held out: of 1,200, a calibration error over 15 bins is 0.04 by chance alone.
    """
    chance = random.Random(seed)  # noqa: S311 - data, not secrets
    customers = [_customer(number, chance) for number in range(6 * count)]
    rows.write(output / "customers.jsonl", customers[: 5 * count])
    rows.write(output / "messages.jsonl", (_message(chance) for _ in range(count)))
    rows.write(output / "messages-test.jsonl", (_message(chance) for _ in range(count // 10)))
    rows.write(output / "pairs.jsonl", (_pair(chance) for _ in range(count)))
    rows.write(output / "pairs-test.jsonl", (_pair(chance) for _ in range(count // 4)))
    asked = {
        name: [{"prompt": _prompt(chance, press)[0]} for _ in range(count // share)]
        for name, share, press in (("prompts", 4, 0.25), ("prompts-test", 10, 0.25))
    }
    probes = [{"prompt": _prompt(chance, 1)[0]} for _ in range(count // 10)]
    more = [_customer(number, chance) for number in range(6 * count, 9 * count)]
    rows.write(output / "customers-test.jsonl", customers[5 * count :] + more)
    # Enough of them that a share of 0.01 is more than a few answers; drawn last.
    probes += [{"prompt": _prompt(chance, 1)[0]} for _ in range(count // 5)]
    for name, made in {**asked, "probes": probes}.items():
        rows.write(output / f"{name}.jsonl", made)


def _customer(number: int, chance: random.Random) -> dict[str, Any]:
    tenure, calls = chance.randint(0, 72), min(6, int(chance.expovariate(0.7)))
    contract, outcome = chance.choice(tuple(CONTRACTS)), chance.choice(tuple(OUTCOMES))
    age, previous = chance.randint(19, 80), chance.randint(0, 4)
    leaving = -0.9 + 0.45 * calls - 0.035 * tenure + CONTRACTS[contract] + chance.gauss(0, 0.4)
    accepting = -0.9 + OUTCOMES[outcome] - 0.15 * previous + 0.02 * (age - 45)
    accepted = _happens(accepting + chance.gauss(0, 0.4), chance)
    return {
        "id": f"c{number:06d}",
        "tenure": tenure,
        "contract": contract,
        "support_calls": calls,
        "autopay": chance.choice(("yes", "no")),
        "monthly_charges": round(chance.uniform(20, 120), 2),
        "age": age,
        "job": chance.choice(JOBS),
        "previous_contacts": previous,
        "previous_outcome": outcome,
        "seconds": round(chance.gauss(400 if accepted else 120, 60)),
        "churned": int(_happens(leaving, chance)),
        "accepted": int(accepted),
    }


def _happens(odds: float, chance: random.Random) -> bool:
    return chance.random() < 1 / (1 + math.exp(-odds))


def _prompt(chance: random.Random, press: float = 0.25) -> tuple[str, str, str]:
    """Return a situation, with its reason and offer; `press` is how often a customer presses."""
    reason, offer = chance.choice(tuple(REASONS)), chance.choice(OFFERS)
    months = chance.randint(1, 72)
    more = f" {PRESS}" if chance.random() < press else ""
    return f"Write to a customer of {months} months. {reason}, {offer}.{more}", reason, offer


def _text(style: str, reason: str, offer: str, chance: random.Random) -> str:
    core = [REASONS[reason], f"We offer {offer} off for a year.", "Reply YES to take it."]
    if style == "long":
        core[1:1] = chance.sample(PADDING, 2)
    if style == "pushy":
        core.append(chance.choice(PUSHY))
    return " ".join(core)


def _message(chance: random.Random) -> dict[str, str]:
    prompt, reason, offer = _prompt(chance)
    style = chance.choices(tuple(STYLES), tuple(STYLES.values()))[0]
    return {"prompt": prompt, "completion": _text(style, reason, offer, chance)}


def _pair(chance: random.Random) -> dict[str, str]:
    prompt, reason, offer = _prompt(chance)
    worse, better = sorted(chance.sample(tuple(LIKED), 2), key=lambda style: LIKED[style])
    if chance.random() < 0.05:  # noqa: PLR2004 - people err
        worse, better = better, worse
    chosen, rejected = (_text(style, reason, offer, chance) for style in (better, worse))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
