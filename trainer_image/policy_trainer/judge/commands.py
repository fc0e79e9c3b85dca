"""What the commands of the judge do with rows: pure but for the judge itself."""

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from policy_api.base import Metric
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from policy_trainer.data import Row
from policy_trainer.errors import DataInvalidError
from policy_trainer.intervals import Intervals
from policy_trainer.judge import lessons, prompts
from policy_trainer.judge import rows as rows_
from policy_trainer.judge.judge import Judge, Verdict, mean

MIDDLE = (prompts.LOW + prompts.HIGH) / 2  # of the scale


def score(judge: Judge, rows: list[Row]) -> list[Row]:
    """Return rows with `ratings`, their mean as `score`, and the judge's `reason` if it has one."""
    found = judge.rate([(row["prompt"], row["completion"]) for row in rows])
    return [
        {**row, "ratings": one.ratings, "score": mean(one)}
        | ({"reason": one.reason} if one.reason else {})
        for row, one in zip(rows, found, strict=True)
    ]


def compare(judge: Judge, rows: list[Row]) -> list[Row]:
    """Return rows with `winner`, the name of the better answer's field or `tie`, `consistent`."""
    return [
        {**row, "winner": _named(row, verdict), "consistent": verdict.consistent}
        for row, verdict in zip(rows, _verdicts(judge, rows), strict=True)
    ]


def _verdicts(judge: Judge, rows: list[Row]) -> list[Verdict]:
    return judge.compare([(r["prompt"], *(r[name] for name in rows_.names(r))) for r in rows])


def _named(row: Row, verdict: Verdict) -> str:
    first, second = rows_.names(row)
    return {"first": first, "second": second, "tie": "tie"}[verdict.winner]


def pairs(judge: Judge, rows: list[Row], margin: float) -> tuple[list[Row], Counter[str]]:
    """Make a preference pair of each prompt's answers: the best rated and the worst.

    West-of-N (Pace et al. 2024) with a check: the judge must also prefer the better rated one
    when it sees both, in both orders.

    Args:
        judge: Rates and compares.
        rows: Of `{prompt, completions}`; a prompt may have several.
        margin: How much higher the better mean rating must be.

    Returns:
        Rows of `{prompt, chosen, rejected}`, and why how many prompts made none.
    """
    known: dict[str, list[str]] = {}
    for row in rows:
        known.setdefault(row["prompt"], []).extend(row["completions"])
    asked = [(p, answer) for p, answers in known.items() for answer in dict.fromkeys(answers)]
    scores: dict[str, list[tuple[float, str]]] = {prompt: [] for prompt in known}
    for (prompt, answer), one in zip(asked, judge.rate(asked), strict=True):
        scores[prompt].append((mean(one), answer))
    dropped: Counter[str] = Counter()
    made = []
    for prompt, rated in scores.items():
        (best, chosen), (worst, rejected) = max(rated), min(rated)
        if len(rated) == 1:
            dropped["one answer"] += 1
        elif best - worst < margin:
            dropped[f"ratings less than {margin:g} apart"] += 1
        else:
            made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    kept = []
    for row, verdict in zip(made, _verdicts(judge, made), strict=True):
        if (why := _doubt(verdict)) is None:
            kept.append(row)
        else:
            dropped[why] += 1
    return kept, dropped


def _doubt(verdict: Verdict) -> str | None:
    """Return why a comparison does not confirm that the first answer is the better one."""
    if not verdict.consistent:
        return "the two orders disagree"
    if verdict.winner == "tie":
        return "the comparison is a tie"
    return None if verdict.winner == "first" else "the comparison prefers the other"


@dataclass(frozen=True)
class Agreement:
    """How often a judge says what people say."""

    accuracy: Metric
    kappa: Metric
    labels: list[str]
    table: list[list[int]]
    """Rows: what people say; columns: what the judge says; both in the order of `labels`."""
    inconsistent: float | None
    """Share of the comparisons whose two orders disagree; None where nothing was compared."""


def agreement(judge: Judge, rows: list[Row], middle: float, seed: int) -> Agreement:
    """Compare a judge with people, by accuracy and Cohen's κ (1960).

    An answer is good when its mean rating is above `middle`. Of a pair that people have put in
    order, every other row is turned, so that no side is always the better.

    Args:
        judge: Rates the rows with `completion`, compares the others.
        rows: See rows.judged.
        middle: See above.
        seed: Of the intervals.

    Raises:
        DataInvalidError: all labels are the same, so that there is nothing to agree on.
    """
    single = [row for row in rows if "completion" in row]
    double = [
        lessons.in_order(row, n) for n, row in enumerate(r for r in rows if "completion" not in r)
    ]
    if single and double:
        raise DataInvalidError(
            "some rows have a label of one answer, others of two: judge them separately"
        )
    verdicts = _verdicts(judge, double)
    rated = score(judge, single)
    people = np.array([row["label"] for row in (*rated, *double)])
    said = np.array(
        ["good" if row["score"] > middle else "bad" for row in rated]
        + [_named(row, verdict) for row, verdict in zip(double, verdicts, strict=True)]
    )
    if len(set(people)) == 1:
        raise DataInvalidError(
            f"all {len(people)} labels are '{people[0]}': agreement needs rows of another, too"
        )
    intervals = Intervals(seed)
    labels = np.unique([*people, *said]).tolist()
    with warnings.catch_warnings():
        # In a resample with one label κ is undefined; `statistic` leaves it out.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        kappa = intervals.statistic("kappa", partial(_kappa, labels), people, said)
    return Agreement(
        accuracy=intervals.mean("accuracy", people == said),
        kappa=kappa,
        labels=labels,
        table=confusion_matrix(people, said, labels=labels).tolist(),
        inconsistent=1 - float(np.mean([v.consistent for v in verdicts])) if verdicts else None,
    )


def _kappa(labels: list[str], people: Any, said: Any) -> float:
    return float(cohen_kappa_score(people, said, labels=labels))
