"""Telemetry of agents that worked on tasks: who was chosen, and how well it went (0 to 10).

The log comes from a dispatcher that often takes the usual agent, sometimes a fitting one, and now
and then any; its propensities are logged. Security work goes best when the auditor comes first: a
sequence of two agents. Three files: `train.jsonl`, `validation.jsonl` and `test.jsonl`, of whole
episodes of one to three decisions.
"""

import random
from pathlib import Path
from typing import Any

from policy_examples import rows

AGENTS = (
    ("backend-architect",),
    ("frontend-developer",),
    ("infrastructure-specialist",),
    ("security-auditor",),
    ("security-auditor", "backend-architect"),
)
TASKS = ("implementation", "interface", "deployment", "review", "authentication")
# Mean reward of each agent for each task, of a medium one; the usual agent is never bad.
FIT = (
    (7.5, 3.5, 4.0, 3.0, 6.0),
    (4.5, 8.0, 2.5, 2.0, 3.5),
    (4.5, 2.0, 8.0, 3.5, 4.0),
    (5.0, 3.0, 3.5, 8.0, 6.0),
    (5.0, 2.5, 3.5, 6.0, 8.5),
)
LANGUAGES = ("TypeScript", "Python", "Go", "Rust")
COMPLEXITY = {"low": 0.7, "medium": 0.0, "high": -1.2}
NOISE = 1.5
USUAL, FITTING, ANY = 0.35, 0.35, 0.30  # how the dispatcher chooses


def make(count: int, seed: int, output: Path) -> None:
    """Write the three files: `count` decisions to learn from, half as many in each other."""
    for name, share in (("train", 1.0), ("validation", 0.5), ("test", 0.5)):
        chance = random.Random(f"{seed} {name}")  # noqa: S311 - data, not secrets
        made: list[dict[str, Any]] = []
        while len(made) < count * share:
            made += _episode(chance)
        rows.write(output / f"{name}.jsonl", made)


def _episode(chance: random.Random) -> list[dict[str, Any]]:
    states = [_state(chance) for _ in range(chance.randint(1, 3))]
    made = []
    for number, state in enumerate(states):
        task = TASKS.index(state["task_type"])
        best = max(range(len(AGENTS)), key=lambda agent: FIT[task][agent])
        odds = [ANY / len(AGENTS)] * len(AGENTS)
        odds[0] += USUAL
        odds[best] += FITTING
        agent = chance.choices(range(len(AGENTS)), odds)[0]
        mean = FIT[task][agent] + COMPLEXITY[state["complexity"]]
        mean += 1.5 * (state["historical_success_rate"] - 0.75)
        last = number + 1 == len(states)
        names = AGENTS[agent]
        made.append(
            {
                "state": state,
                "action": names[0] if len(names) == 1 else list(names),
                "reward": round(min(10.0, max(0.0, chance.gauss(mean, NOISE))), 2),
                "next_state": None if last else states[number + 1],
                "done": last,
                "propensity": round(odds[agent], 6),
            }
        )
    return made


def _state(chance: random.Random) -> dict[str, Any]:
    return {
        "codebase_languages": chance.sample(LANGUAGES, chance.randint(1, 3)),
        "task_type": chance.choice(TASKS),
        "complexity": chance.choice(tuple(COMPLEXITY)),
        "historical_success_rate": round(chance.uniform(0.5, 1.0), 2),
    }
