"""Make the data of an example from a seed: `python -m policy_trainer.synthesize review-forge …`.

The same arguments make the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from policy_trainer.synthetic import (
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


def main(arguments: Sequence[str]) -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(
        prog="policyctl synthesize", description="Make the data of an example from a seed."
    )
    parser.add_argument("example", choices=sorted(EXAMPLES))
    parser.add_argument("--count", type=int, default=1200, help="rows to learn from")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    EXAMPLES[given.example](given.count, given.seed, given.output)


if __name__ == "__main__":
    main(sys.argv[1:])
