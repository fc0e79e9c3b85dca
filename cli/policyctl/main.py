"""`policyctl`: train on this machine, evaluate on a log, check manifests, look at artifacts."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from policy_api.v1alpha1.store import Export, GGUFType

from policyctl import advisor, artifacts, local, log_commands, manifests, serving
from policyctl.errors import UserError

EXIT_USER_ERROR = 2

# Commands that are programs of the trainer: their module, and what they do.
PROGRAMS = {
    "data": (
        "policy_trainer.data_tools",
        "prepare, validate, split, pair, synthesize, catalog data",
    ),
    "evaluate": (
        "policy_trainer.evaluate_log",
        "what a policy would have earned on logged decisions",
    ),
    "judge": (
        "policy_trainer.judge",
        "let a language model judge answers: score, compare, pairs, agreement, teach",
    ),
}
LIGHT = ("data",)  # those that run without torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    0: done. 2: the command or a manifest is wrong. 3: trained, but the exit criteria are not met.
    65, 70, 75, 78, 137: the trainer's: bad data, crashed, stopped, bad config, out of memory.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:2] == ["data", "synthesize"]:
            return local.program("policy_examples.synthesize", given[2:])
        if given and given[0] in PROGRAMS:
            run = local.program if given[0] in LIGHT else _in_trainer
            return run(PROGRAMS[given[0]][0], given[1:])
        options = _parser().parse_args(given)
        code: int = options.run(options)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USER_ERROR
    except BrokenPipeError:  # `| head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="policyctl", description="From logged decisions to guarded production."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="run PolicyTrainings on this machine, with the code that a pod runs"
    )
    _files(train)
    train.add_argument(
        "--local",
        action="store_true",
        required=True,
        help="on this machine (kubectl apply trains in a cluster)",
    )
    _volumes(train)
    train.add_argument(
        "--again", action="store_true", help="train anew, also what was trained before"
    )
    train.add_argument("--verbose", action="store_true", help="show the trainer's log")
    train.set_defaults(run=_train)

    validate = commands.add_parser(
        "validate", help="check PolicyTrainings as the API server would, without one"
    )
    _files(validate)
    validate.add_argument(
        "--data", action="store_true", help="read their data as well, as the training would"
    )
    _volumes(validate)
    validate.set_defaults(run=_validate)

    for name, (_, told) in PROGRAMS.items():
        commands.add_parser(name, help=told)

    _serving(commands)
    log_commands.add(commands)
    artifact = commands.add_parser("artifact", help="look at what a training made")
    about = artifact.add_subparsers(required=True, metavar="COMMAND")
    for name, run, told in (
        ("show", _show, "say what an artifact is, its metrics and its verdict"),
        ("verify", _verify, "check every file against policy.json"),
    ):
        command = about.add_parser(name, help=told)
        command.add_argument("folder", type=Path, metavar="DIR", help="folder with policy.json")
        command.set_defaults(run=run)
    _export_options(
        about.add_parser("export", help="write the model as GGUF, ONNX or JSON, and read it back")
    )
    return parser


def _serving(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve", help="answer over HTTP on this machine, with the server that a pod runs"
    )
    serve.add_argument("folder", type=Path, metavar="DIR", help="folder with policy.json")
    serve.add_argument("--port", type=int, default=8080, help="default: 8080; 0 takes a free one")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: 127.0.0.1, this machine alone",
    )
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="callers must send one of its tokens: one a line, with a name before it or without",
    )
    serve.add_argument(
        "--config",
        metavar="FILE",
        help="PolicyDeployment whose mode, minConfidence, autoApprove, baseline, exploration, "
        "timeoutMilliseconds, scoring and server.routes are in force",
    )
    serve.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="where another PolicyDeployment answers that the --config asks; may be repeated",
    )
    kept = serve.add_mutually_exclusive_group()
    kept.add_argument(
        "--log",
        metavar="FILE",
        help="SQLite file, or a postgresql:// URL, that keeps what is decided; default: "
        "$POLICYCTL_LOG, or decisions.sqlite3",
    )
    kept.add_argument("--no-log", action="store_true", help="keep nothing")
    serve.set_defaults(run=_serve)

    advise = commands.add_parser("advisor", help="an agent file, by which an assistant asks")
    advise.add_argument("folder", type=Path, metavar="DIR", help="folder with policy.json")
    advise.add_argument(
        "--server",
        default=log_commands.SERVER,
        metavar="URL",
        help=f"where the policy is asked; default: {log_commands.SERVER}",
    )
    advise.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    advise.set_defaults(run=_advise)

    decide = commands.add_parser("decide", help="ask an artifact for one decision")
    decide.add_argument("folder", type=Path, metavar="DIR", help="folder with policy.json")
    decide.add_argument(
        "request",
        nargs="?",
        metavar="REQUEST",
        help="JSON as POST /v1/decisions takes it; - reads standard input",
    )
    decide.add_argument("--state", metavar="JSON", help="what is known, by feature")
    decide.add_argument("--prompt", metavar="TEXT", help="what a text policy is asked")
    decide.add_argument(
        "--candidate",
        action="append",
        default=[],
        metavar="TEXT",
        help="one of those to choose from; may be repeated",
    )
    decide.add_argument(
        "--top-k", type=int, metavar="N", help="options shown, 1 to 100; default: 3"
    )
    decide.add_argument("--no-reasons", action="store_true", help="do not say why")
    decide.add_argument("--json", action="store_true", help="one line of JSON")
    decide.set_defaults(run=_decide)


def _serve(options: argparse.Namespace) -> int:
    return serving.serve(
        options.folder,
        options.port,
        options.host,
        _say,
        tokens=options.token_file,
        config=options.config,
        log=None if options.no_log else log_commands.place(options.log),
        others=options.peer,
    )


def _advise(options: argparse.Namespace) -> int:
    text = advisor.of(options.folder, options.server)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    _say(f"wrote {options.output}")
    return 0


def _decide(options: argparse.Namespace) -> int:
    body = serving.body_of(
        options.request,
        state=options.state,
        prompt=options.prompt,
        candidates=options.candidate,
        top_k=options.top_k,
        standard_input=sys.stdin.read() if options.request == "-" else None,
    )
    request = serving.request_of(body)
    decision = serving.ask(options.folder, request, explain=not options.no_reasons)
    shown = serving.to_json if options.json else serving.describe
    _say(shown(decision, request.top_k))
    return 0


def _export_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="DIR", help="folder with policy.json")
    command.add_argument(
        "--format",
        action="append",
        required=True,
        choices=[str(e) for e in Export],
        help="may be repeated",
    )
    command.add_argument(
        "--gguf-type",
        action="append",
        default=[],
        choices=[str(t) for t in GGUFType],
        help="how GGUF keeps the weights; may be repeated; default: F16",
    )
    command.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    command.set_defaults(run=_export)


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="YAML file, folder with a kustomization.yaml, or - for standard input",
    )


def _volumes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--volumes",
        type=Path,
        default=Path("volumes"),
        metavar="DIR",
        help="pvc://claim/path is DIR/claim/path; default: ./volumes",
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _train(options: argparse.Namespace) -> int:
    return local.train(
        manifests.read(options.files),
        local.Place(options.volumes.resolve()),
        again=options.again,
        verbose=options.verbose,
        say=_say,
    )


def _validate(options: argparse.Namespace) -> int:
    found = manifests.read(options.files)
    for manifest in found:
        _say(f"PolicyTraining {manifest.name} is valid")
    if not options.data:
        return 0
    return local.validate_data(found, local.Place(options.volumes.resolve()), _say)


def _show(options: argparse.Namespace) -> int:
    _say(artifacts.describe(options.folder))
    return 0


def _in_trainer(module: str, arguments: Sequence[str]) -> int:
    """Run a program of the trainer that needs its libraries."""
    local.check_trainer()
    return local.program(module, arguments)


def _export(options: argparse.Namespace) -> int:
    chosen = [("--format", name) for name in options.format]
    chosen += [("--gguf-type", name) for name in options.gguf_type]
    told = [word for pair in chosen for word in pair]
    return _in_trainer(
        "policy_trainer.export_artifact", [options.folder, *told, "--output", options.output]
    )


def _verify(options: argparse.Namespace) -> int:
    _say(artifacts.verify(options.folder))
    return 0
