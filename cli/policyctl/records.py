"""Reads a decision log: shows it, exports it, and asks a person to label what is in it."""

import getpass
import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from policy_api.v1alpha1.recipes.common import Recipe
from policy_models import rows
from policy_records import reading, wire
from policy_records.database import DatabaseURLInvalidError, connect, parse
from policy_records.entries import FeedbackEntry, Label, Owner
from policy_records.ids import uuid7
from policy_records.writing import write

from policyctl.errors import UserError
from policyctl.keeping import LOCAL
from policyctl.monitoring import POLICY, Share, Span

DEFAULT = "decisions.sqlite3"
VARIABLE = "POLICYCTL_LOG"
_TEXT = 60  # characters of a text in a table


@dataclass(frozen=True)
class Log:
    """One owner's log in an open database."""

    engine: sa.Engine
    owner: Owner


def url_of(given: str | None) -> str:
    """Return where the log is: what was given, else POLICYCTL_LOG, else a file of this folder.

    Raises:
        UserError: A password was given as an argument, where other programs read it.
    """
    if given is None:
        return os.environ.get(VARIABLE) or DEFAULT
    if "://" in given and parse_url(given).password is not None:
        raise UserError(f"set {VARIABLE} to a URL with a password: others read the arguments")
    return given


def parse_url(text: str) -> sa.URL:
    """Return a database's URL.

    Raises:
        UserError: It is none.
    """
    try:
        return parse(text)
    except DatabaseURLInvalidError as error:
        raise UserError(str(error)) from error


@contextmanager
def opened(given: str | None, of: str | None) -> Iterator[Log]:
    """Open a log that is there.

    Args:
        given: See url_of.
        of: A policy of this machine, or NAMESPACE/DEPLOYMENT; None: the only one that there is.

    Raises:
        UserError: There is none, or none of that.
    """
    text = url_of(given)
    url = parse_url(text)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise UserError(
            f"there is no decision log in {url.database}: `policyctl serve` makes one, --log names "
            "another"
        )
    engine = connect(url)
    try:
        yield Log(engine, _owner(reading.owners(engine), of))
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise UserError(f"the decision log can't be read: {reason}") from error
    finally:
        engine.dispose()


def _owner(found: list[Owner], of: str | None) -> Owner:
    if of is not None:
        namespace, _, deployment = of.rpartition("/")
        wanted = Owner(namespace or LOCAL, deployment)
        if wanted in found:
            return wanted
        raise UserError(f"the log has no decisions of {of}{_those(found)}")
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError("the log has no decisions yet")
    raise UserError(f"the log has several policies: name one with --of{_those(found)}")


def _those(found: list[Owner]) -> str:
    names = ", ".join(
        owner.deployment if owner.namespace == LOCAL else f"{owner.namespace}/{owner.deployment}"
        for owner in found
    )
    return f": it has {names}" if names else ""


def describe(log: Log, count: int) -> Iterator[str]:
    """Yield lines of a table of the latest decisions, the newest first."""
    table: list[tuple[str, ...]] = [
        ("DECISION", "AT", "VERSION", "SOURCE", "ANSWER", "CONFIDENCE", "REWARD", "LABEL")
    ]
    table.extend(_line(wire.shown(row)) for row in reading.latest(log.engine, log.owner, count))
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _line(record: Mapping[str, Any]) -> tuple[str, ...]:
    outcome = record.get("outcome") or {}
    labels = [said["label"] for said in record.get("feedback", ()) if "label" in said]
    confidence = record.get("confidence")
    return (
        record["decisionId"],
        record["at"][:19],
        str(record["version"]),
        record["source"],
        _short(_answer(record)),
        "-" if confidence is None else f"{confidence:.2f}",
        f"{outcome['reward']:g}" if "reward" in outcome else "-",
        labels[-1] if labels else "-",
    )


def _answer(record: Mapping[str, Any]) -> str:
    """Return what was answered, or what came in its place, in a word or two."""
    ranked = f"(ranked {len(record.get('candidates', ()))})" if record["valid"] else "-"
    return record.get("action") or record.get("answer") or record.get("failure") or ranked


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else f"{line[: _TEXT - 1]}…"


def one(log: Log, decision_id: str) -> str:
    """Return one decision with what came of it, as JSON for people.

    Raises:
        UserError: It is not there.
    """
    found = reading.find(log.engine, log.owner, _id(decision_id))
    if found is None:
        raise UserError(f"the log has no decision {decision_id}")
    return json.dumps(wire.shown(found), indent=2, ensure_ascii=False)


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise UserError(f"{text} is no decision's id, which is a UUID") from error


def moment(text: str) -> datetime:
    """Return a moment: a date, or a date and a time, of UTC where it names no other.

    Raises:
        UserError: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text} is no time: write 2026-01-31 or 2026-01-31T12:00:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def exported(
    log: Log,
    recipe: Recipe | None,
    label: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Yield the log in order: whole records, or the rows that a recipe is trained on."""
    for found in reading.records(log.engine, log.owner, since, until):
        record = wire.shown(found)
        if recipe is None:
            yield record
        else:
            yield from rows.of(recipe, record, label)


ANSWERS = {"g": Label.POSITIVE, "b": Label.NEGATIVE}


def ask(log: Log, count: int, answer: Callable[[str], str]) -> int:
    """Show decisions that nobody has labelled yet, the newest first, and keep what a person says.

    Args:
        log: To read and to write.
        count: At most so many.
        answer: Shows a question, and returns what was typed: g, b, s or q.

    Returns:
        How many were labelled.
    """
    done = 0
    for row in reading.latest(log.engine, log.owner, count):
        record = wire.shown(row)
        if any("label" in said for said in record.get("feedback", ())):
            continue
        said = answer(f"{_question(record)}\ngood, bad, skip or quit? [g/b/s/q] ")
        key = said.strip().lower()[:1]
        if key == "q":
            break
        if key in ANSWERS:
            label(log, record["decisionId"], ANSWERS[key])
            done += 1
    return done


def _question(record: Mapping[str, Any]) -> str:
    asked = record.get("state", record.get("prompt", record.get("candidates")))
    shown = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
    head = f"\n{record['at']}  version {record['version']}"
    return f"{head}\nasked: {shown}\nanswered: {_answer(record)}"


def label(log: Log, decision_id: str, said: Label, corrected: str | None = None) -> None:
    """Keep what a person calls a decision; a server of the policy counts it.

    Raises:
        UserError: The decision is not there.
    """
    found = _id(decision_id)
    if reading.find(log.engine, log.owner, found) is None:
        raise UserError(f"the log has no decision {decision_id}")
    entry = FeedbackEntry(
        uuid7(),
        datetime.now(UTC),
        decision_id=found,
        label=said,
        corrected_action=corrected,
        caller=f"policyctl/{getpass.getuser()}",
    )
    write(log.engine, log.owner, [entry], counts=False)


def span(log: Log, since: datetime, until: datetime) -> Span:
    """Return what happened in a span of time."""
    found = reading.tallies(log.engine, log.owner, since, until)
    own = [tally for tally in found if tally.source == POLICY]
    others = [tally for tally in found if tally.source != POLICY]

    def succeeded(some: Sequence[reading.Tally]) -> Share:
        return Share(sum(t.succeeded for t in some), sum(t.success_known for t in some))

    return Span(
        made=sum(tally.made for tally in found),
        by_baseline=sum(tally.made for tally in others),
        followed=Share(sum(t.followed for t in found), sum(t.followed_known for t in found)),
        success=succeeded(own),
        success_of_baseline=succeeded(others),
    )
