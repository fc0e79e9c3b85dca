"""Logged choices of agents for tasks, whose best choice is known: what CQL's tests learn from."""

import json
import random
from pathlib import Path

AGENTS = ("backend", "frontend", "security>backend")
TASKS = ("api", "page", "login")


def worth(state: dict, action: str) -> float:
    """Return the mean reward of an action: each task has its agent, the sequence costs a bit."""
    right = AGENTS[TASKS.index(state["task"])]
    return (8.0 if action == right else 2.0) - (0.5 if ">" in action else 0.0)


def write(file: Path, count: int, seed: int, *, propensity: bool = True) -> None:
    """Write episodes of two decisions of a policy that is right half of the time."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count // 2):
        states = [_state(chance), _state(chance)]
        for place, state in enumerate(states):
            right = AGENTS[TASKS.index(state["task"])]
            odds = [0.6 if action == right else 0.2 for action in AGENTS]
            action = chance.choices(AGENTS, odds)[0]
            row = {
                "state": state,
                "action": action.split(">") if ">" in action else action,
                "reward": worth(state, action) + chance.gauss(0, 2),
                "next_state": states[1] if place == 0 else None,
                "done": place == 1,
            }
            if propensity:
                row["propensity"] = odds[AGENTS.index(action)]
            lines.append(json.dumps(row) + "\n")
    file.write_text("".join(lines))


def _state(chance: random.Random) -> dict:
    return {
        "task": chance.choice(TASKS),
        "languages": chance.sample(["py", "ts", "go"], chance.randint(0, 2)),
        "success_rate": chance.random(),
    }
