"""The commands on what was decided: log, feedback, outcome."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from policy_api.v1alpha1.recipes.common import Recipe

from policyctl import artifacts, monitoring
from policyctl.errors import UserError

SHOWN = 20
SERVER = "http://127.0.0.1:8080"
"""Where `policyctl serve` answers unless it is told otherwise."""
EXIT_DEGRADED = 3
NEEDS = "this reads a decision log: pip install 'policy-operator[cli,records]'"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them to the commands."""
    log = commands.add_parser("log", help="look at, export or label what was decided")
    kinds = log.add_subparsers(required=True, metavar="COMMAND")

    show = _reads(kinds.add_parser("show", help="the latest decisions, or one with all of it"))
    show.add_argument("decision", nargs="?", metavar="ID", help="of one decision")
    show.add_argument(
        "--last", type=_count, default=SHOWN, metavar="N", help=f"decisions; default: {SHOWN}"
    )
    show.set_defaults(run=_show)

    export = _reads(kinds.add_parser("export", help="as JSON Lines: records, or rows to train on"))
    export.add_argument(
        "--for",
        dest="recipe",
        choices=[str(recipe) for recipe in Recipe],
        help="the rows that this recipe is trained on; default: whole records",
    )
    export.add_argument("--since", metavar="TIME", help="from this date or time on, UTC")
    export.add_argument("--until", metavar="TIME", help="before this date or time")
    export.add_argument(
        "--label",
        default="label",
        metavar="COLUMN",
        help="Classifier: the column that says whether it succeeded; default: label",
    )
    export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    export.set_defaults(run=_export)

    label = _reads(kinds.add_parser("label", help="say which decisions were good"))
    label.add_argument("decision", nargs="?", metavar="ID", help="default: asks, the newest first")
    label.add_argument("--good", action="store_true", help="it was")
    label.add_argument("--bad", action="store_true", help="it was not")
    label.add_argument("--corrected", metavar="ACTION", help="what it should have been")
    label.add_argument(
        "--last", type=_count, default=SHOWN, metavar="N", help=f"asks of so many; default: {SHOWN}"
    )
    label.set_defaults(run=_label)

    _feedback(commands)
    _outcome(commands)
    _monitor(commands)


def _feedback(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _sends(commands.add_parser("feedback", help="say what you think of a decision"))
    command.add_argument("text", nargs="?", metavar="TEXT", help="in your words")
    about = command.add_mutually_exclusive_group(required=True)
    about.add_argument("--decision", metavar="ID", help="the decision that it is about")
    about.add_argument("--run", metavar="ID", dest="run_id", help="the run that it is about")
    command.add_argument("--tag", action="append", default=[], metavar="WORD", help="repeatable")
    command.add_argument("--label", choices=["Positive", "Negative"], help="default: by keywords")
    command.add_argument("--corrected", metavar="ACTION", help="what it should have been")
    command.set_defaults(run=_send_feedback)


def _outcome(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _sends(commands.add_parser("outcome", help="say what came of a decision"))
    command.add_argument("decision", metavar="ID", help="the decision")
    command.add_argument("--reward", type=float, metavar="NUMBER", help="how good it was")
    command.add_argument(
        "--success", action=argparse.BooleanOptionalAction, help="whether it succeeded"
    )
    command.add_argument(
        "--followed", action=argparse.BooleanOptionalAction, help="whether it was carried out"
    )
    command.add_argument("--next-state", metavar="JSON", help="what was known afterwards")
    command.add_argument(
        "--done", action=argparse.BooleanOptionalAction, help="whether the sequence ended"
    )
    command.set_defaults(run=_send_outcome)


def _monitor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _reads(commands.add_parser("monitor", help="how a policy does in production"))
    command.add_argument("--days", type=_count, default=7, metavar="N", help="default: 7")
    command.add_argument(
        "--artifact", type=Path, metavar="DIR", help="of the version: says what was expected"
    )
    command.add_argument(
        "--max-degradation",
        type=_count,
        default=15,
        metavar="PERCENT",
        help="of the expected success rate; more is exit code 3; default: 15",
    )
    command.set_defaults(run=_watch)


def _reads(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "--log",
        metavar="FILE",
        help="SQLite file, or a postgresql:// URL; default: $POLICYCTL_LOG, or decisions.sqlite3",
    )
    command.add_argument(
        "--of", metavar="POLICY", help="policy, or NAMESPACE/DEPLOYMENT, if there are several"
    )
    return command


def _sends(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "--server",
        default=SERVER,
        metavar="URL",
        help=f"where the policy is served; default: {SERVER}",
    )
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="its first token is sent, if one is needed"
    )
    return command


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1")
    return int(text)


def _records() -> Any:
    if find_spec("sqlalchemy") is None:
        raise UserError(NEEDS)
    from policyctl import records  # noqa: PLC0415 - its libraries are an extra

    return records


def place(given: str | None) -> str:
    """Return where a log is kept; see records.url_of.

    Raises:
        UserError: It can't be kept there, or what keeps it is not installed.
    """
    url: str = _records().url_of(given)
    return url


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _show(options: argparse.Namespace) -> int:
    records = _records()
    with records.opened(options.log, options.of) as log:
        if options.decision is not None:
            _say(records.one(log, options.decision))
            return 0
        for line in records.describe(log, options.last):
            _say(line)
    return 0


def _export(options: argparse.Namespace) -> int:
    records = _records()
    recipe = None if options.recipe is None else Recipe(options.recipe)
    span = [
        None if text is None else records.moment(text) for text in (options.since, options.until)
    ]
    with records.opened(options.log, options.of) as log:
        found = records.exported(log, recipe, options.label, *span)
        if options.output is None:
            _write(found, sys.stdout.write)
            return 0
        with options.output.open("w", encoding="utf-8") as file:
            count = _write(found, file.write)
    _say(f"{options.output}: {count:,} rows")
    return 0


def _write(found: Iterable[Mapping[str, Any]], write: Callable[[str], int]) -> int:
    count = 0
    for row in found:
        write(f"{json.dumps(row, ensure_ascii=False)}\n")
        count += 1
    return count


def _label(options: argparse.Namespace) -> int:
    records = _records()
    if options.decision is None:
        with records.opened(options.log, options.of) as log:
            done = records.ask(log, options.last, input)
        _say(f"{done} labelled")
        return 0
    if options.good == options.bad:
        raise UserError("say --good or --bad")
    said = records.Label.POSITIVE if options.good else records.Label.NEGATIVE
    with records.opened(options.log, options.of) as log:
        records.label(log, options.decision, said, options.corrected)
    _say(f"{options.decision}: {said}")
    return 0


def _watch(options: argparse.Namespace) -> int:
    records = _records()
    expected = monitoring.Expected(None)
    if options.artifact is not None:
        made = artifacts.load(options.artifact)
        expected = monitoring.Expected.of({m.name: m.value for m in made.metrics})
    until = datetime.now(UTC)
    with records.opened(options.log, options.of) as log:
        span = records.span(log, until - timedelta(days=options.days), until)
        _say(f"{log.owner.deployment}, the last {options.days} days")
    most = options.max_degradation / 100
    for line in monitoring.report(span, expected, most):
        _say(line)
    worse = monitoring.degraded(span.success, expected.success_rate, most)
    return EXIT_DEGRADED if worse else 0


def _send_feedback(options: argparse.Namespace) -> int:
    from policyctl import remote  # noqa: PLC0415 - with its HTTP library

    body = {
        "decisionId": options.decision,
        "runId": options.run_id,
        "text": options.text,
        "tags": options.tag or None,
        "label": options.label,
        "correctedAction": options.corrected,
    }
    _say(remote.feedback(options.server, _set(body), options.token_file))
    return 0


def _send_outcome(options: argparse.Namespace) -> int:
    from policyctl import remote  # noqa: PLC0415 - with its HTTP library

    body = {
        "reward": options.reward,
        "success": options.success,
        "followed": options.followed,
        "nextState": None if options.next_state is None else _json(options.next_state),
        "done": options.done,
    }
    _say(remote.outcome(options.server, options.decision, _set(body), options.token_file))
    return 0


def _set(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"--next-state is not JSON: {error}") from error
