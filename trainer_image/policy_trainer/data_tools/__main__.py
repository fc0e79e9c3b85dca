"""The commands of `policyctl data`: `python -m policy_trainer.data_tools COMMAND …`."""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from policy_api.contract.run import parse_run
from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.recipes.common import Recipe
from pydantic import ValidationError

from policy_trainer import checks, parts
from policy_trainer.data import PARTS
from policy_trainer.data_tools import catalog, report, sources
from policy_trainer.data_tools.output import publish, staging
from policy_trainer.data_tools.pairing import pair
from policy_trainer.data_tools.prepare import UNIQUE_RECIPES, Settings, prepare
from policy_trainer.data_tools.split import split
from policy_trainer.data_tools.validate import inputs, validate
from policy_trainer.errors import ConfigInvalidError, DataInvalidError, RunError, tell

SIGTERMED = 128 + signal.SIGTERM


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code.

    0: done. 2: the command is wrong. 65: the data is. 78: a setting is, or the output.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except RunError as error:
        return tell(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="policyctl data",
        description="Data of trainings.",
        epilog="policyctl data synthesize EXAMPLE makes the data of an example.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("prepare", help="from logs to a recipe's rows, in parts")
    _recipe(command)
    _files(command)
    _parts(command)
    command.add_argument("--max-rows", type=_count, metavar="N", help="keep a sample of at most N")
    command.add_argument("--longest", type=_count, metavar="CHARACTERS", help="drop longer texts")
    command.add_argument(
        "--duplicates",
        choices=("drop", "keep"),
        help="equal rows; default: drop texts, keep decisions and rows of tables",
    )
    command.add_argument("--strict", action="store_true", help="end at the first bad row")
    command.set_defaults(run=_prepare)

    command = commands.add_parser("validate", help="say what a training would say of data")
    _recipe(command, "?")
    command.add_argument("files", nargs="*", metavar="FILE", help=FILES)
    command.add_argument("--run", dest="config", type=Path, help=argparse.SUPPRESS)
    command.set_defaults(run=_validate)

    command = commands.add_parser("split", help="split rows in parts, as they are")
    _files(command)
    _parts(command)
    command.set_defaults(run=_split)

    command = commands.add_parser("pairs", help="pair bad answers with good ones")
    _files(command)
    _seed(command)
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="to write")
    command.set_defaults(run=_pairs)

    command = commands.add_parser("catalog", help="list data and artifacts with checksums")
    command.add_argument("folders", nargs="*", type=Path, metavar="DIR")
    command.add_argument("--output", type=Path, metavar="FILE", help="write it as JSON")
    command.add_argument("--check", type=Path, metavar="FILE", help="compare with such a file")
    command.set_defaults(run=_catalog)
    return parser


FILES = "JSON Lines, or CSV when it ends in .csv; packed when it ends in .gz; - for standard input"


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help=FILES)


def _recipe(command: argparse.ArgumentParser, nargs: str | None = None) -> None:
    names = ", ".join(Recipe)
    command.add_argument("recipe", nargs=nargs, choices=list(Recipe), metavar="RECIPE", help=names)
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the recipe's block: label=Churn",
    )


def _seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=42)


def _parts(command: argparse.ArgumentParser) -> None:
    for name, percent in zip(PARTS, (80, 10, 10), strict=True):
        command.add_argument(f"--{name}", type=int, default=percent, metavar="PERCENT")
    command.add_argument("--by", metavar="FIELD", help="rows that share its value stay together")
    _seed(command)
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="to write to")


def _count(text: str) -> int:
    if (found := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return found


def _percents(options: argparse.Namespace) -> dict[str, int]:
    found = {name: getattr(options, name) for name in PARTS}
    if min(found.values()) < 0 or found["train"] == 0 or sum(found.values()) != 100:  # noqa: PLR2004
        said = ", ".join(f"{name} {percent}" for name, percent in found.items())
        raise ConfigInvalidError(f"{said}: must add up to 100, with some for train")
    return found


def _blocks(options: argparse.Namespace) -> RecipeBlocks:
    """Return the recipe with the settings that were given."""
    values: dict[str, Any] = {}
    for setting in options.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigInvalidError(f"--set {setting}: write --set KEY=VALUE")
        values[key] = _value(value)
    try:
        return checks.settings(Recipe(options.recipe), values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"][1:]))
        raise ConfigInvalidError(
            f"{options.recipe}: {field}: {first['msg']}; write --set {field}=VALUE"
        ) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _prepare(options: argparse.Namespace) -> None:
    recipe = Recipe(options.recipe)
    duplicates = options.duplicates or ("drop" if recipe in UNIQUE_RECIPES else "keep")
    settings = Settings(
        run=_blocks(options),
        seed=options.seed,
        percents=_percents(options),
        by=options.by or parts.together(recipe),
        keep_duplicates=duplicates == "keep",
        max_rows=options.max_rows,
        longest=options.longest,
        strict=options.strict,
    )
    _say(report.told(prepare(sources.named(options.files), settings, options.output)))


def _validate(options: argparse.Namespace) -> None:
    if options.config is not None:
        run, _ = parse_run(options.config.read_bytes())
        faults, rows = validate(run, inputs(run), run.seed)
        _judge(faults, [f"{n}: {rows[n]:,} rows are what {run.recipe} takes" for n in rows])
        return
    if options.recipe is None or not options.files:
        raise ConfigInvalidError("name a recipe and its files: policyctl data validate SFT FILE…")
    faults, rows = validate(_blocks(options), sources.named(options.files), seed=0)
    _judge(faults, [f"{sum(rows.values()):,} rows are what {options.recipe} takes"])


def _judge(faults: list[str], good: list[str]) -> None:
    if faults:
        raise DataInvalidError("\n".join(faults))
    _say(good)


def _split(options: argparse.Namespace) -> None:
    files, percents = sources.named(options.files), _percents(options)
    written = split(files, percents, options.seed, options.by, options.output)
    _say(f"{options.output / p.name}: {p.rows:,} rows, sha256 {p.sha256}" for p in written)


def _pairs(options: argparse.Namespace) -> None:
    made = pair(sources.named(options.files), options.seed, options.output)
    _say([f"{options.output}: {made.written.rows:,} pairs, sha256 {made.written.sha256}"])
    if lacking := made.prompts - made.both:
        _say([f"{lacking:,} of {made.prompts:,} prompts lack a good or a bad answer"])
    if made.left_out:
        _say([f"{made.left_out:,} rows of feedback are neither good nor bad, left out"])


def _catalog(options: argparse.Namespace) -> None:
    if options.check is not None:
        _check_catalog(options.check)
        return
    if not options.folders:
        raise ConfigInvalidError("name folders, or a catalog: policyctl data catalog --check FILE")
    entries = catalog.catalog(options.folders)
    _say(catalog.told(entries))
    if options.output is not None:
        with staging(options.output.parent) as scratch:
            (scratch / options.output.name).write_text(json.dumps(entries, indent=1) + "\n")
            publish(scratch, options.output.parent, [options.output.name])


def _check_catalog(file: Path) -> None:
    entries = catalog.load(file)
    if found := list(catalog.faults(entries)):
        raise DataInvalidError("\n".join(found))
    _say([f"all {sum(len(e['files']) for e in entries):,} files are as in {file}"])


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        text = line.encode(errors="backslashreplace").decode()  # JSON may have half a character
        sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERMED))  # what was half-written goes
    sys.exit(main(sys.argv[1:]))
