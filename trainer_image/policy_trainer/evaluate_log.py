"""What a policy would have earned on logged decisions, without taking one.

    python -m policy_trainer.evaluate_log decisions.jsonl --policy FOLDER

`policyctl evaluate` calls this. The policy is the folder of a CQL artifact, or a baseline's name.
The model of the reward is cross-fitted: each half of the log is predicted by what the other half
taught.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.contract.run import RunInput
from policy_models.q_policy import FILE, QPolicy

from policy_trainer import checks, data, decisions, ope, tabular, worth
from policy_trainer.decisions import Decisions
from policy_trainer.errors import ConfigInvalidError, RunError, tell
from policy_trainer.ope import Estimator, RewardModel

BASELINES = ("random", "most_frequent", "highest_success")


def evaluate(log: Path, policy: str, success: float, confidence: float) -> list[dict[str, Any]]:
    """Return the values: one row an estimator, after that of the log itself.

    Args:
        log: JSON Lines of decisions, each with its propensity.
        policy: Folder of an artifact, or one of BASELINES.
        success: For `highest_success`: a decision has succeeded when its reward is above this.
        confidence: Of the intervals.

    Raises:
        RunError: the log or the policy cannot be used, or says too little of the other.
    """
    source = RunInput(name="log", uri=str(log), path=str(log))
    rows = data.load(source, checks.decision).rows
    chosen, some, space = _policy(rows, policy, success)
    if some.propensities is None:
        raise ConfigInvalidError(
            "some rows have no 'propensity', the probability with which their action was chosen: "
            "without it nothing can be said for sure of another policy",
            field="propensity",
        )
    made = ope.logged(
        some.rewards, some.propensities, some.actions, chosen, _expected(some, len(space))
    )
    size = ope.check_overlap(made)
    found = ope.evaluate(made, list(Estimator), confidence)
    values: dict[str, ope.Estimate] = {"log": ope.estimate(some.rewards, confidence)}
    values |= {str(estimator): value for estimator, value in found.items()}
    rows_of = []
    for name, value in values.items():
        row: dict[str, Any] = {"value": name, "rows": len(rows)}
        row |= {"mean": value.value, "low": value.low, "high": value.high}
        rows_of.append(row if name == "log" else {**row, "effectiveSampleSize": size})
    return rows_of


def _policy(
    rows: list[data.Row], policy: str, success: float
) -> tuple[Any, Decisions, Sequence[str]]:
    """Return its probabilities of all actions, the log as it sees it, and the actions."""
    if policy in BASELINES:
        space: Sequence[str] = decisions.action_space({"train": rows}, (), "cql")
        encoder = tabular.learn([row["state"] for row in rows], (), (), "cql")
        some = Decisions.of(rows, encoder, space)
        return worth.baselines(some, len(space), success, len(rows))[policy], some, space
    folder = Path(policy)
    if not (folder / FILE).is_file():
        raise ConfigInvalidError(
            f"{policy} is neither a folder with {FILE} nor one of {', '.join(BASELINES)}",
            field="policy",
        )
    learned = QPolicy.read(folder)
    parts = {"log": rows, "train": rows}
    space = decisions.action_space(parts, learned.actions, "cql")
    some = Decisions.of(rows, learned.encoder, space)
    best = learned.values(some.states).argmax(axis=1)
    return worth.always(best, len(space)), some, space


def _expected(some: Decisions, count: int) -> Any:
    """Return the rewards that a model expects of all actions, learned on the other half."""
    expected = np.zeros((len(some.actions), count))
    even = np.arange(len(some.actions)) % 2 == 0
    for here, there in ((even, ~even), (~even, even)):
        model = RewardModel.fit(some.states[there], some.actions[there], some.rewards[there], count)
        expected[here] = model.predict(some.states[here])
    return expected


def main(arguments: Sequence[str]) -> int:
    """Read the command line, print a table or JSON, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="policyctl evaluate",
        description="What a policy would have earned on logged decisions, by four estimators.",
    )
    parser.add_argument("log", type=Path, help="JSON Lines of logged decisions")
    parser.add_argument(
        "--policy", required=True, help=f"folder of a CQL artifact, or {', '.join(BASELINES)}"
    )
    parser.add_argument("--success-reward", type=float, default=0.0, metavar="R")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        found = evaluate(given.log, given.policy, given.success_reward, given.confidence)
    except RunError as error:
        return tell(error)
    if given.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    size = found[-1]["effectiveSampleSize"]
    sys.stdout.write(f"{found[0]['rows']:,} decisions, effective sample size {size:,.0f}\n")
    for row in found:
        ends = f"[{row['low']:.4g}, {row['high']:.4g}]"
        sys.stdout.write(f"  {row['value']:<6} {row['mean']:>10.4g}  {ends}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
