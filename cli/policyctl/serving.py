"""Ask an artifact on this machine: one decision at once, or over HTTP as a pod would answer."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import MANIFEST, Kind, PolicyManifest
from policy_api.contract.environment import (
    ARTIFACT_PATH_VARIABLE,
    ARTIFACT_SHA256_VARIABLE,
    POLICY_NAME_VARIABLE,
    POLICY_VERSION_VARIABLE,
    SERVING_FILE,
    SERVING_PATH_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TRUST_LOOPBACK_VARIABLE,
)
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec
from policy_models.answers import AnswerCheck
from policy_models.complaints import complaint
from policy_models.decision import Decision, Option, Refusal
from policy_models.fields import Violation
from policy_models.json_text import NotJSONError, parse
from policy_models.policy import TEXT, open_policy
from policy_models.requests import DecisionRequest
from pydantic import ValidationError

from policyctl import artifacts, keeping, local, manifests, peers
from policyctl.errors import UserError


def serve(
    folder: Path,
    port: int,
    host: str,
    say: local.Say,
    *,
    tokens: Path | None = None,
    config: str | None = None,
    log: str | None = None,
    others: Sequence[str] = (),
) -> int:
    """Run the policy server on an artifact; return its exit code.

    Args:
        folder: With policy.json.
        port: 0 takes a free one.
        host: The address to listen on.
        say: Tells the user.
        tokens: File of the tokens that callers must send; without it everybody may call, and a
            program of this machine is a known caller.
        log: Database that keeps what is decided; None: nothing is kept.
        config: File with the PolicyDeployment whose mode, baseline, routes and so on are in force.
        others: Servers of other policies that it asks, as NAME=URL.

    Raises:
        UserError: It is no artifact, the config is not valid, the server is not installed, or it
            refuses to serve.
    """
    made = artifacts.load(folder)
    spec = None if config is None else manifests.deployment(config, made.policy)
    told = None if spec is None else _told(spec, others, say)
    if told is None and others:
        raise UserError("--peer is for what a --config asks: give both")
    if find_spec("uvicorn") is None:
        raise UserError(f"this runs the server: pip install 'policy-operator[{_extra(made)}]'")
    with tempfile.TemporaryDirectory(prefix="policyctl-") as scratch:
        said = Path(scratch) / "termination-log"
        said.touch()
        file = Path(scratch) / SERVING_FILE
        if told is not None:
            file.write_text(json.dumps(told.to_wire()))
        env = {
            ARTIFACT_PATH_VARIABLE: str(folder.resolve()),
            ARTIFACT_SHA256_VARIABLE: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
            POLICY_NAME_VARIABLE: made.policy,
            POLICY_VERSION_VARIABLE: str(made.version),
            SERVING_PATH_VARIABLE: str(file),
            "HOST": host,
            "PORT": str(port),
            "DRAIN_SECONDS": "0",
            "TERMINATION_LOG": str(said),
            "DOWNLOAD_FOLDER": scratch,
            TOKEN_FILE_VARIABLE: "" if tokens is None else str(tokens.resolve()),
            TRUST_LOOPBACK_VARIABLE: "1",
        }
        if log is not None:
            wanted = None if spec is None else spec.server.decision_log
            env |= keeping.environment(made, log, Path(scratch), wanted)
        where = "nowhere" if log is None else "in the database" if "://" in log else f"in {log}"
        code = local.program("policy_server", [], env, _Log(made, host, where, say).hear)
        if reason := said.read_text().strip():
            raise UserError(f"{folder} can't be served: {reason}")
        return code


def _told(spec: PolicyDeploymentSpec, others: Sequence[str], say: local.Say) -> ServingConfig:
    """Return what the operator would tell the server, and say what of it is a user's own."""
    found = peers.read(spec, others)
    for route in spec.server.routes or ():
        say(f"POST {route.path} is {route.to}")
    return ServingConfig(**spec.serving(), routes=spec.server.routes, peers=found or None)


class _Log:
    """Tells what of the server's log a person wants to see: one JSON object a line."""

    def __init__(self, made: PolicyManifest, host: str, kept: str, say: local.Say) -> None:
        self._made, self._host, self._kept, self._say = made, host, kept, say
        self._port = 0

    def hear(self, line: str) -> None:
        """Take a line."""
        try:
            told = json.loads(line)
        except ValueError:
            self._say(line.rstrip())  # of a library
            return
        match told["message"]:
            case message if message.startswith("refusing to serve"):
                pass  # the end of `serve` says it
            case "listening":
                self._port = told["port"]
            case "ready":
                self._say(
                    f"{self._made.policy} version {self._made.version} answers on "
                    f"http://{self._host}:{self._port}/v1/decisions (/docs describes it) and keeps "
                    f"decisions {self._kept}; Ctrl-C ends it"
                )
            case "serving":
                self._say(f"mode {told['mode']}, baseline {told['baseline'] or 'none'}")
            case "decision":
                took = f"{1000 * told['durationSeconds']:.1f} ms"
                by = f"  {told['source']}" if "source" in told else ""
                self._say(f"{told['decisionId']}  {told['status']}  {took}{by}")
            case message if told["level"] in {"warning", "error", "critical"}:
                self._say(f"{told['level']}: {message}")
                if "exception" in told:
                    self._say(told["exception"])


def ask(folder: Path, request: DecisionRequest, *, explain: bool) -> Decision:
    """Return what an artifact decides.

    Args:
        folder: With policy.json.
        request: What is asked.
        explain: Whether options come with reasons, where the request does not say.

    Raises:
        UserError: A file was changed, what the kind needs is not installed, it refuses, or its
            answer breaks its schema.
    """
    made = artifacts.load(folder)
    if found := list(artifacts.faults(folder, made)):
        raise UserError("\n".join(f"{folder}: {fault}" for fault in found))
    asked = request.request()
    if "explain" not in request.model_fields_set:
        asked = replace(asked, explain=explain)
    try:
        (outcome,) = open_policy(folder, made).decide([asked])
    except ImportError as error:
        raise UserError(_missing(made, error)) from error
    if isinstance(outcome, Refusal):
        raise UserError(outcome.message)
    if made.kind is not Kind.CAUSAL_LM or request.candidates is not None:
        return outcome
    judged = AnswerCheck(made.answer_schema).judged(outcome)
    if isinstance(judged, Violation):
        raise UserError(f"{outcome.ranking[0].action}\n{judged.message}: the server withholds it")
    return judged


def _missing(made: PolicyManifest, error: ImportError) -> str:
    return f"a {made.kind} needs {error.name}: pip install 'policy-operator[{_extra(made)}]'"


def _extra(made: PolicyManifest) -> str:
    return "server" if made.kind in TEXT else "serve"


def request_of(body: Mapping[str, Any]) -> DecisionRequest:
    """Return what is asked, judged as POST /v1/decisions judges it.

    Raises:
        UserError: It can't be asked; the sentence is the server's.
    """
    try:
        return DecisionRequest.model_validate(body)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        raise UserError(complaint(first, first["loc"]).message) from error


def read(text: str) -> dict[str, Any]:
    """Read a request.

    Raises:
        UserError: It is no JSON object.
    """
    try:
        found = parse(text, "the request")
    except NotJSONError as error:
        raise UserError(str(error)) from error
    if not isinstance(found, dict):
        raise UserError('the request must be an object such as {"state": {…}}')
    return found


def describe(decision: Decision, top_k: int) -> str:
    """Return a decision for people: the best option first, with its reasons."""
    if decision.ranking[0].tokens is not None:  # generated: there is no other
        fields = [f"{name}: {_shown(value)}" for name, value in (decision.fields or {}).items()]
        sure = f"(confidence {_share(decision.ranking[0])})"
        return "\n".join([decision.ranking[0].action, *fields, sure])
    shown = decision.ranking[:top_k]
    width = max(len(option.action) for option in shown)
    lines: list[str] = []
    for rank, option in enumerate(shown, start=1):
        lines.append(f"{rank}. {option.action:<{width}}  {_share(option)}")
        lines += [f"     {reason.text}" for reason in option.reasons]
    if decision.unseen:
        lines.append(f"not seen in training: {', '.join(decision.unseen)}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _share(option: Option) -> str:
    return f"{option.score:.4g}" if option.confidence is None else f"{option.confidence:.2f}"


def to_json(decision: Decision, top_k: int) -> str:
    """Return a decision as one line of JSON."""
    options = [
        {
            "action": option.action,
            "score": option.score,
            "probability": option.probability,
            "confidence": option.confidence,
            "reasons": [
                {key: value for key, value in vars(reason).items() if value is not None}
                for reason in option.reasons
            ],
        }
        for option in decision.ranking[:top_k]
    ]
    said = {} if decision.fields is None else {"fields": decision.fields}
    return json.dumps(
        {"ranking": options, "unseen": list(decision.unseen), **said}, ensure_ascii=False
    )


def body_of(
    request: str | None,
    *,
    state: str | None,
    prompt: str | None,
    candidates: Sequence[str],
    top_k: int | None,
    standard_input: str | None,
) -> dict[str, Any]:
    """Return the request that a command line spells, as JSON.

    Raises:
        UserError: It spells none, or two.
    """
    parts: dict[str, Any] = {}
    shown = {} if top_k is None else {"topK": top_k}
    if state is not None:
        parts["state"] = read(state)
    if prompt is not None:
        parts["prompt"] = prompt
    if candidates:
        parts["candidates"] = list(candidates)
    if request is None:
        if not parts:
            raise UserError(
                "say what to decide: a REQUEST as POST /v1/decisions takes it, or --state, "
                "--prompt, --candidate"
            )
        return parts | shown
    if parts:
        raise UserError("give a REQUEST, or --state, --prompt and --candidate, not both")
    text = standard_input if request == "-" and standard_input is not None else request
    return read(text) | shown
