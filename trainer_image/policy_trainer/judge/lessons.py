"""What a local judge learns its trade from, by recipe SFT: what it is asked, and what to reply."""

from collections.abc import Iterable, Iterator, Sequence

from policy_api.v1alpha1.judge import Criterion

from policy_trainer.data import Row
from policy_trainer.judge import prompts
from policy_trainer.judge.prompts import Compare, Rate

EXTREMES = {"good": prompts.HIGH, "bad": prompts.LOW}


def teach(criteria: Sequence[Criterion], rows: Iterable[Row]) -> list[Row]:
    """Return rows of `{prompt, completion}` from which recipe SFT makes a local judge.

    They are what a local judge is asked and the word that it should reply: for rows with `ratings`
    (as `score` writes them) the rating by each criterion, for a label of good or bad the highest or
    lowest, for two answers which is better, in both orders.
    """
    return [lesson for row in rows for lesson in _lessons(criteria, row)]


def _lessons(criteria: Sequence[Criterion], row: Row) -> Iterator[Row]:
    if "completion" not in row:
        pair = in_order(row, 0)
        sides = {"a": ("A", "B"), "b": ("B", "A"), "tie": ("tie", "tie")}[pair["label"]]
        for (first, second), side in zip((("a", "b"), ("b", "a")), sides, strict=True):
            both = Compare(pair["prompt"], pair[first], pair[second])
            yield {"prompt": prompts.alone(both, None, criteria), "completion": side}
        return
    for criterion in criteria:
        asked = prompts.alone(Rate(row["prompt"], row["completion"]), criterion, criteria)
        yield {"prompt": asked, "completion": str(_rating(row, criterion))}


def _rating(row: Row, criterion: Criterion) -> int:
    if "label" in row:
        return EXTREMES[row["label"]]
    rating: float = row["ratings"][criterion.name]
    return round(rating)


def in_order(row: Row, number: int) -> Row:
    """Return a pair as `{prompt, a, b, label}`; of every other number, the better one is b."""
    if "chosen" not in row:
        return row
    sides = ("a", "b") if number % 2 == 0 else ("b", "a")
    both = {sides[0]: row["chosen"], sides[1]: row["rejected"]}
    return {"prompt": row["prompt"], **both, "label": sides[0]}
