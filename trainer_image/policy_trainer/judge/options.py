"""The options of the judge's commands: rows, criteria, and who judges."""

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from policy_api.contract import environment
from policy_api.v1alpha1.judge import CRITERION, URL, URL_WANTED, Criterion, JudgeEndpoint

from policy_trainer.judge.asker import Asker
from policy_trainer.judge.cache import Cache
from policy_trainer.judge.judge import Judge, Prices

SEED = 42

Command = Callable[[argparse.Namespace], None]


def rows_in(command: argparse.ArgumentParser, run: Command) -> argparse.ArgumentParser:
    """Add what every command takes: a file of rows, and criteria."""
    command.add_argument("file", type=Path, metavar="FILE", help="JSON Lines or CSV")
    command.add_argument(
        "--criterion",
        dest="criteria",
        action="append",
        type=_criterion,
        required=True,
        metavar="NAME=DESCRIPTION",
        help="what answers are judged by; may be given several times",
    )
    command.set_defaults(run=run)
    return command


def judge_options(command: argparse.ArgumentParser) -> None:
    """Add who judges."""
    who = command.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--endpoint",
        metavar="URL",
        help="OpenAI-compatible, up to and with /v1; its key is in "
        f"{environment.JUDGE_KEY_VARIABLE}",
    )
    who.add_argument("--local", metavar="MODEL", help="a text model: folder or hub id")
    command.add_argument("--model", metavar="NAME", help="model of the endpoint")
    command.add_argument("--cache", type=Path, metavar="FILE", help="keep replies, ask none twice")
    command.add_argument("--seed", type=int, default=SEED, metavar="N")
    for name in ("--usd-per-million-input-tokens", "--usd-per-million-output-tokens"):
        command.add_argument(name, type=float, metavar="USD", help="price of the endpoint")
    command.add_argument("--max-usd", type=float, metavar="USD", help="stop when it cost this much")


def output(command: argparse.ArgumentParser) -> None:
    """Add where rows are written to."""
    command.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")


def _criterion(said: str) -> Criterion:
    name, _, description = said.partition("=")
    if not re.match(CRITERION, name) or not description.strip():
        raise argparse.ArgumentTypeError(
            f"{said!r} is not NAME=DESCRIPTION with a snake_case name, e.g. "
            "risk_assessment_accuracy='The risk is named and rated as it is.'"
        )
    return Criterion(name=name, description=description)


def fault(given: argparse.Namespace) -> str | None:
    """Return what is wrong with options that only make sense together."""
    return next(_faults(given), None)


def _faults(given: argparse.Namespace) -> Iterator[str]:
    written = getattr(given, "output", None)
    if written is not None and not written.parent.is_dir():
        yield f"--output {written}: there is no folder {written.parent}"
    names = [criterion.name for criterion in given.criteria]
    if len(set(names)) < len(names):
        yield "two --criterion have the same name"
    if not hasattr(given, "endpoint"):
        return  # a command without a judge
    prices = (given.usd_per_million_input_tokens, given.usd_per_million_output_tokens)
    if given.endpoint is None:
        if any(option is not None for option in (given.model, given.max_usd, *prices)):
            yield "--model, --max-usd and prices are for --endpoint"
        return
    if given.model is None:
        yield "--endpoint needs --model: the model's name there"
    if given.max_usd is not None and not any(prices):
        yield "--max-usd needs a price, e.g. --usd-per-million-output-tokens 0.6"
    if not re.match(URL, given.endpoint):
        yield f"--endpoint: {URL_WANTED}"


def judge(given: argparse.Namespace) -> Judge:
    """Return the judge that the options name.

    Raises:
        ConfigInvalidError: it cannot be asked.
    """
    asker: Asker
    cache = Cache(given.cache)
    if given.local is not None:
        import torch  # noqa: PLC0415 - seconds, which an endpoint does not need

        from policy_trainer.judge.local import LocalAsker  # noqa: PLC0415
        from policy_trainer.process import Process  # noqa: PLC0415

        alone = Process(0, 0, 1, on_gpu=torch.cuda.is_available())
        return Judge(LocalAsker(given.local, "--local", alone), given.criteria, cache)
    from policy_trainer.judge.endpoint import EndpointAsker  # noqa: PLC0415 - 1 s

    endpoint = JudgeEndpoint(
        url=given.endpoint,
        model=given.model,
        usd_per_million_input_tokens=given.usd_per_million_input_tokens,
        usd_per_million_output_tokens=given.usd_per_million_output_tokens,
        max_usd=given.max_usd,
    )
    asker = EndpointAsker(endpoint, given.seed)
    return Judge(asker, given.criteria, cache, prices=Prices.of(endpoint))
