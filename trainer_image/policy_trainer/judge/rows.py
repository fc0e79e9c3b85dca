"""What the commands of the judge read, row by row, each with a sentence for what is wrong."""

from collections.abc import Sequence
from pathlib import Path

from policy_api.contract.run import RunInput
from policy_api.v1alpha1.judge import Criterion

from policy_trainer import data
from policy_trainer.checks import LABELS
from policy_trainer.data import Check, Place, Row
from policy_trainer.judge import prompts

SIDES = ("a", "b", "tie")


def read(file: Path, check: Check) -> list[Row]:
    """Read a file's rows, each checked.

    Raises:
        DataInvalidError: names the file, the line and the field.
    """
    return data.load(RunInput(name="rows", uri=str(file), path=str(file)), check).rows


def answer(row: Row, place: Place) -> Row:
    """Check `{prompt, completion}`; all other fields are kept."""
    return {**row, **{name: data.text(row, name, place) for name in ("prompt", "completion")}}


def pair(row: Row, place: Place) -> Row:
    """Check `{prompt, a, b}`, or `{prompt, chosen, rejected}`; all other fields are kept."""
    first, second = names(row)
    return {**row, **{name: data.text(row, name, place) for name in ("prompt", first, second)}}


def names(row: Row) -> tuple[str, str]:
    """Return the fields of a row's two answers."""
    return ("chosen", "rejected") if "chosen" in row else ("a", "b")


def answers(row: Row, place: Place) -> Row:
    """Check `{prompt, completions}`, or `{prompt, completion}`."""
    prompt = data.text(row, "prompt", place)
    if "completions" not in row:
        return {"prompt": prompt, "completions": [data.text(row, "completion", place)]}
    given = row["completions"]
    if not isinstance(given, list) or not all(isinstance(a, str) and a.strip() for a in given):
        message = "field 'completions' is no list of texts that are not empty"
        raise place.error(message, "completions")
    return {"prompt": prompt, "completions": given}


def judged(row: Row, place: Place) -> Row:
    """Check a row that a person has judged.

    `{prompt, completion, label}` with good or bad, `{prompt, chosen, rejected}`, or
    `{prompt, a, b, label}` with a, b or tie.
    """
    if "completion" not in row:
        checked = pair(row, place)
        if "chosen" not in row:
            _label(row, SIDES, place)
        return checked
    _label(row, LABELS, place)
    return answer(row, place)


def lesson(criteria: Sequence[Criterion]) -> Check:
    """Return a check for what a judge can learn from: as `judged`, or with `ratings`."""

    def check(row: Row, place: Place) -> Row:
        if "ratings" not in row:
            return judged(row, place)
        given = row["ratings"]
        for name in (criterion.name for criterion in criteria):
            found = given.get(name) if isinstance(given, dict) else None
            if not isinstance(found, int | float) or not prompts.LOW <= found <= prompts.HIGH:
                message = f"ratings.{name} is {found!r}, wanted a number from 1 to 10"
                raise place.error(message, "ratings")
        kept = {name: value for name, value in row.items() if name != "label"}
        return answer(kept, place)

    return check


def _label(row: Row, wanted: tuple[str, ...], place: Place) -> None:
    if row.get("label") not in wanted:
        message = f"field 'label' is {row.get('label')!r}, wanted {' or '.join(wanted)}"
        raise place.error(message, "label")
