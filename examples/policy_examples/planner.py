"""A planner that asks a PlanPreference policy which plans people like.

    python -m policy_examples.planner "move the database" --server http://127.0.0.1:8080

Step by step (`beam`): each of the best plans so far is continued by each step that it has not, the
policy scores them all in one request, and the best go on. As a whole (`better`): a plan that scores
low gets one alternative, and the better of the two wins. Both send a runId, by which feedback finds
what was decided.
"""

import argparse
import sys
import uuid
from collections.abc import Callable, Sequence

import httpx

from policy_examples.plan_preference import DISLIKED, LIKED, STEPS

WIDTH, LENGTH = 3, 4
LEAST = 0.6  # below it, an alternative is tried

Score = Callable[[Sequence[str]], list[float]]
"""From plans to how likely people like each, in the same order."""


def beam(score: Score, steps: Sequence[str], width: int = WIDTH, length: int = LENGTH) -> str:
    """Return the plan that scores best of those that a beam search finds.

    Args:
        score: Asks the policy.
        steps: What a plan may consist of, each once.
        width: How many plans are continued.
        length: Steps of a plan.
    """
    best: list[tuple[str, ...]] = [()]
    for _ in range(min(length, len(steps))):
        longer = [(*plan, step) for plan in best for step in steps if step not in plan]
        told = score([written(plan) for plan in longer])
        order = sorted(range(len(longer)), key=lambda place: -told[place])
        best = [longer[place] for place in order[:width]]
    return written(best[0])


def better(score: Score, plan: str, alternative: Callable[[], str], least: float = LEAST) -> str:
    """Return a plan, or its alternative where it scores low and the other scores higher.

    Args:
        score: Asks the policy.
        plan: The first.
        alternative: Makes another; asked only where it is needed.
        least: Score below which it is.
    """
    (first,) = score([plan])
    if first >= least:
        return plan
    other = alternative()
    (second,) = score([other])
    return other if second > first else plan


def written(steps: Sequence[str]) -> str:
    """Return a plan as the examples' data has it."""
    return "; ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def asking(client: httpx.Client, run_id: str, prompt: str) -> Score:
    """Return what asks a server; it keeps the prompt with what it decides."""

    def score(plans: Sequence[str]) -> list[float]:
        asked = {"prompt": prompt, "candidates": list(plans), "runId": run_id}
        answer = client.post("/v1/scores", json=asked).raise_for_status().json()
        found = {entry["index"]: entry["score"] for entry in answer["scores"]}
        return [found[place] for place in range(len(plans))]

    return score


def main() -> int:
    """Plan for a goal, choose by the policy, and say under which run it was decided."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("goal")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--plan", help="a plan of your own: kept, unless it scores low")
    options = parser.parse_args()
    run_id = str(uuid.uuid4())
    steps = (*LIKED, *DISLIKED, *STEPS)
    prompt = f"Plan how to {options.goal}."
    with httpx.Client(base_url=options.server, timeout=30) as client:
        score = asking(client, run_id, prompt)
        if options.plan is None:
            plan = beam(score, steps)
        else:
            plan = better(score, options.plan, lambda: beam(score, steps))
        asked = {"prompt": prompt, "candidates": [plan], "runId": run_id}
        chosen = client.post("/v1/decisions", json=asked).raise_for_status().json()
    sys.stdout.write(f"{plan}\nscore {chosen['confidence']:.2f}, run {run_id}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
