"""What became of the rows that were read: for people, and as report.json."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_trainer.data import Place
from policy_trainer.errors import DataInvalidError

FIRST = 5  # places that are named of each reason
SHOWN = 8  # kinds of rows that are printed


@dataclass
class Reason:
    """Rows that were dropped for one reason."""

    rows: int = 0
    first: list[str] = field(default_factory=list)  # file:line
    example: str | None = None  # the first one's error


class Dropped:
    """Counts the rows that were dropped, by reason."""

    def __init__(self) -> None:
        self.reasons: dict[str, Reason] = {}

    @property
    def rows(self) -> int:
        """How many rows were dropped."""
        return sum(reason.rows for reason in self.reasons.values())

    def add(self, reason: str, place: Place, example: str | None = None) -> None:
        """Note a row."""
        found = self.reasons.setdefault(reason, Reason(example=example))
        found.rows += 1
        if len(found.first) < FIRST:
            found.first.append(f"{place.source.uri}:{place.number}")

    def add_error(self, error: DataInvalidError, place: Place) -> None:
        """Note a row that is not what the recipe takes."""
        self.add(reason_of(error), place, error.message)

    def many(self, reason: str, rows: int) -> None:
        """Note rows of which nobody knows any more where they stood."""
        if rows:
            self.reasons.setdefault(reason, Reason()).rows += rows

    def to_json(self) -> list[dict[str, Any]]:
        """Return the reasons for the report, that of most rows first."""
        return [
            {"reason": name, "rows": found.rows}
            | ({"first": found.first} if found.first else {})
            | ({"example": found.example} if found.example else {})
            for name, found in sorted(self.reasons.items(), key=lambda item: -item[1].rows)
        ]


def reason_of(error: DataInvalidError) -> str:
    """Return which field an error is about, and whether it is missing; or that it is no row."""
    about = re.search(r" field (.+)$", error.field or "")
    if about is None:
        return "not readable as a row"
    missing = f"field {about[1]!r} is missing" in error.message
    return f"{about[1]}: {'missing' if missing else 'bad value'}"


def told(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a report for people."""
    yield f"read {report['read']:>13,}"
    yield f"kept {report['kept']:>13,}"
    yield f"dropped {report['read'] - report['kept']:>10,}"
    for reason in report["dropped"]:
        where = f"  first {', '.join(reason['first'])}" if "first" in reason else ""
        yield f"  {reason['rows']:>12,}  {reason['reason']}{where}"
        if "example" in reason:
            yield f"  {'':>12}  {reason['example']}"
    for name, part in report["parts"].items():
        yield f"{name:<10} {part['rows']:>7,} rows, {part['share']:.1%}, sha256 {part['sha256']}"
        yield from _part(part)
    for name in report["empty"]:
        yield f"{name:<10} no rows: give more, or --{name} 0"


def _part(part: Mapping[str, Any]) -> Iterator[str]:
    if "episodes" in part:
        yield f"  episodes {part['episodes']:,}"
    for kinds in ("labels", "actions", "classes", "judgements"):
        if kinds in part:
            shown = [f"{name} {rows:,}" for name, rows in list(part[kinds].items())[:SHOWN]]
            more = len(part[kinds]) - len(shown)
            yield f"  {kinds} {', '.join(shown)}" + (f", {more} more" if more else "")
    for name, found in part.get("numbers", {}).items():
        yield f"  {name} {found['min']:g} to {found['max']:g}, mean {found['mean']:.4g}"
    if "missing" in part:
        shown = [f"{name} {rows:,}" for name, rows in list(part["missing"].items())[:SHOWN]]
        yield f"  missing {', '.join(shown)}"
