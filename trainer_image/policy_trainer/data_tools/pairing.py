"""Preference pairs of answers that people called good or bad, however many there are."""

from dataclasses import dataclass
from pathlib import Path

from policy_api.contract.run import RunInput

from policy_trainer import checks, data, pairs
from policy_trainer.data_tools import shapes, sources
from policy_trainer.data_tools.index import Answers
from policy_trainer.data_tools.output import Lines, Written, publish, staging
from policy_trainer.data_tools.shapes import LeftOutError
from policy_trainer.parts import canonical


@dataclass(frozen=True)
class Paired:
    """What was made."""

    written: Written
    prompts: int
    both: int
    """Of those, with a good and a bad answer."""
    left_out: int
    """Rows of feedback that says neither good nor bad."""


def pair(files: list[RunInput], seed: int, output: Path) -> Paired:
    """Write the pairs that DPO and RewardModel would make of the same rows.

    Args:
        files: Rows of `{prompt, completion, label}`, of `{input, output, label}`, of feedback on
            plans; those of `{prompt, chosen, rejected}` are pairs already, and come first.
        seed: Says which good answer each bad one is paired with.
        output: The file to write.

    Raises:
        DataInvalidError: a row is not of these, or there are no pairs. Nothing was written.
    """
    left_out = 0
    with staging(output.parent) as scratch, Lines(scratch / output.name) as lines:
        answers = Answers(scratch)
        for file in files:
            for place, found in sources.rows(file):
                try:
                    shaped = shapes.answered(data.readable(found), place)
                except LeftOutError:
                    left_out += 1
                    continue
                row = checks.pair(shaped, place)
                if "label" in row:
                    answers.add(row["prompt"], row["completion"], row["label"])
                else:
                    lines.write(canonical(row))
        made = pairs.matched(answers.bad(), answers.prompts.good, answers.good, seed)
        for row in made:
            lines.write(canonical(row))
        written, (prompts, both) = lines.end(), answers.prompts.totals()
        if not written.rows:
            raise pairs.none("train", prompts)
        publish(scratch, output.parent, [output.name])
    return Paired(written, prompts, both, left_out)
