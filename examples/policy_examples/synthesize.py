"""Make the data of an example from a seed: `policyctl data synthesize review-forge …`.

Also `python -m policy_examples.synthesize`. The same arguments make the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from policy_examples import (
    agent_selection,
    flowlens,
    plan_preference,
    retention,
    review_forge,
)

EXAMPLES = {
    "agent-selection": agent_selection.make,
    "flowlens": flowlens.make,
    "plan-preference": plan_preference.make,
    "retention": retention.make,
    "review-forge": review_forge.make,
}


def make(example: str, output: Path, count: int = 1200, seed: int = 42) -> None:
    """Write an example's files to a folder, with `count` rows to learn from."""
    output.mkdir(parents=True, exist_ok=True)
    EXAMPLES[example](count, seed, output)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    command = argparse.ArgumentParser(
        prog="policyctl data synthesize", description="Make the data of an example from a seed."
    )
    command.add_argument("example", choices=sorted(EXAMPLES))
    command.add_argument("--count", type=int, default=1200, help="rows to learn from")
    command.add_argument("--seed", type=int, default=42)
    command.add_argument("--output", type=Path, required=True, help="folder to write to")
    given = command.parse_args(arguments)
    make(given.example, given.output, given.count, given.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
