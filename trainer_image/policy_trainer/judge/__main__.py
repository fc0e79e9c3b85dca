"""Judge answers from the command line: `python -m policy_trainer.judge score answers.jsonl …`.

`policyctl judge` calls this. Rows go to standard output or a file, what there is to say of them to
standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence

from policy_api.contract.report import EXIT_CODES, Outcome

from policy_trainer.data import Row
from policy_trainer.errors import RunError, tell
from policy_trainer.judge import commands, lessons, options, rows
from policy_trainer.judge.judge import Judge


def main(arguments: Sequence[str]) -> int:
    """Read the command line, judge, return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if fault := options.fault(given):
        parser.error(fault)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        given.run(given)
    except RunError as error:
        return tell(error)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; with --cache FILE the same command goes on where it was\n")
        return EXIT_CODES[Outcome.PREEMPTED]
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="policyctl judge",
        description="Let a language model judge answers by named criteria.",
    )
    made = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, told in (
        ("score", _score, "rate each answer from 1 to 10: rows of {prompt, completion}"),
        ("compare", _compare, "say which of two answers is better: rows of {prompt, a, b}"),
        ("pairs", _pairs, "make the pairs that recipe DPO takes of several answers to a prompt"),
        ("agreement", _agreement, "say how often it judges as people do: accuracy and Cohen's κ"),
    ):
        command = options.rows_in(made.add_parser(name, help=told, description=told), run)
        options.judge_options(command)
        if name != "agreement":
            options.output(command)
        if name == "pairs":
            command.add_argument(
                "--margin",
                type=float,
                default=1.0,
                metavar="N",
                help="how much higher the better mean rating must be; default: 1",
            )
        if name == "agreement":
            command.add_argument(
                "--middle",
                type=float,
                default=commands.MIDDLE,
                metavar="N",
                help="an answer is good when its mean rating is above this; default: 5.5",
            )
    told = "make the rows from which recipe SFT trains a local judge, of rated or labelled ones"
    options.output(options.rows_in(made.add_parser("teach", help=told, description=told), _teach))
    return parser


def _score(given: argparse.Namespace) -> None:
    found, judge = rows.read(given.file, rows.answer), options.judge(given)
    _write(given, commands.score(judge, found))
    _account(judge)


def _compare(given: argparse.Namespace) -> None:
    found, judge = rows.read(given.file, rows.pair), options.judge(given)
    made = commands.compare(judge, found)
    _write(given, made)
    apart = sum(not row["consistent"] for row in made)
    _say(
        f"{len(made)} pairs compared; the two orders disagree on {apart} ({apart / len(made):.1%})"
    )
    _account(judge)


def _pairs(given: argparse.Namespace) -> None:
    found, judge = rows.read(given.file, rows.answers), options.judge(given)
    made, dropped = commands.pairs(judge, found, given.margin)
    _write(given, made)
    _say(f"{len(made)} pairs of {len(made) + dropped.total()} prompts")
    for why, count in dropped.most_common():
        _say(f"  dropped {count}: {why}")
    _account(judge)


def _agreement(given: argparse.Namespace) -> None:
    found, judge = rows.read(given.file, rows.judged), options.judge(given)
    agreed = commands.agreement(judge, found, given.middle, given.seed)
    for metric in (agreed.accuracy, agreed.kappa):
        ends = f"[{metric.low:.4g}, {metric.high:.4g}]"
        sys.stdout.write(f"{metric.name:<9} {metric.value:>7.4g}  {ends}\n")
    if agreed.inconsistent is not None:
        sys.stdout.write(f"the two orders disagree on {agreed.inconsistent:.1%}\n")
    width = max(map(len, agreed.labels)) + 2
    head = "".join(f"{label:>{width + 4}}" for label in agreed.labels)
    sys.stdout.write(f"{'people':<{width}}{head}   (judge)\n")
    for label, counts in zip(agreed.labels, agreed.table, strict=True):
        cells = "".join(f"{count:>{width + 4}}" for count in counts)
        sys.stdout.write(f"{label:<{max(width, 6)}}{cells}\n")
    sys.stdout.flush()
    _account(judge)


def _teach(given: argparse.Namespace) -> None:
    found = rows.read(given.file, rows.lesson(given.criteria))
    made = lessons.teach(given.criteria, found)
    _write(given, made)
    _say(f"{len(made)} rows to learn from")


def _write(given: argparse.Namespace, made: Iterable[Row]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    if given.output is None:
        sys.stdout.write(lines)
        sys.stdout.flush()
    else:
        given.output.write_text(lines)


def _account(judge: Judge) -> None:
    """Say what judging took."""
    spent = judge.spent
    usd = f", {judge.usd:.4g} USD" if judge.usd else ""
    _say(
        f"{judge.asked} questions asked, {judge.known} known; {spent.requests:,} requests, "
        f"{spent.input_tokens:,} tokens read, {spent.output_tokens:,} written{usd}"
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
