"""Golden artifacts of the kinds of tables: what a trainer wrote, requests, and what it answers.

    PYTHONPATH=… python -m models.golden     (needs the trainer's environment)

makes tests/fixtures/golden anew: only when what an artifact keeps, or answers, is meant to change.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import PolicyManifest, parse_manifest
from policy_models.decision import Decision, Policy, Refusal, Request
from policy_models.policy import open_policy

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden"
ANSWERS = "answers.json"
OF_TEXTS = {"fields", "written"}
KINDS = ("Classifier", "OfferPolicy", "PlanPreference", "QNetwork")


def manifest_of(folder: Path) -> PolicyManifest:
    """Return an artifact's policy.json."""
    return parse_manifest((folder / "policy.json").read_bytes())


def opened(kind: str) -> Policy:
    """Return the golden policy of a kind."""
    return open_policy(FOLDER / kind, manifest_of(FOLDER / kind))


def kept(kind: str) -> list[dict[str, Any]]:
    """Return the golden requests of a kind, each with its answer."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{kind}.{ANSWERS}").read_text())
    return found


def asked(fields: dict[str, Any]) -> Request:
    """Return a request as it is kept."""
    candidates = fields.get("candidates")
    return Request(
        state=fields.get("state"),
        candidates=None if candidates is None else tuple(candidates),
        explain=True,
    )


def shown(outcome: Decision | Refusal) -> dict[str, Any]:
    """Return an outcome as JSON has it."""
    told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(outcome)))
    return {name: value for name, value in told.items() if name not in OF_TEXTS}


REQUESTS: dict[str, list[dict[str, Any]]] = {
    "QNetwork": [
        {"state": {"task": "api", "languages": ["py"], "success_rate": 0.5}},
        {"state": {"task": "login", "languages": [], "success_rate": None}},
        {"state": {"task": "never seen", "languages": ["go", "rust"], "success_rate": 1e9}},
        {
            "state": {"task": "page", "languages": None, "success_rate": 0},
            "candidates": ["security>backend", "backend"],
        },
        {"state": {"tusk": "page"}},
        {"state": {"task": "page", "languages": ["py"]}},
    ],
    "Classifier": [
        {"state": {"age": 20, "plan": "basic", "calls": 1}},
        {"state": {"age": 20, "plan": "gold", "calls": None}},
        {"state": {"age": None, "plan": "silver", "calls": ""}},
        {"state": {"age": "20", "plan": "gold", "calls": 1}},
    ],
    "OfferPolicy": [
        {"state": {"age": 20, "plan": "basic", "fee": 80}},
        {"state": {"age": 55, "plan": "gold", "fee": 20.5, "history": {"period": 3, "spent": 9}}},
        {"state": {"age": 20, "plan": "basic", "fee": 80, "history": {"contacts": 99}}},
        {"state": {"age": 20, "plan": "basic", "fee": 80}, "candidates": ["no contact"]},
        {"state": {"age": 20, "plan": "basic", "fee": 80, "history": {"contacts": -1}}},
        {"state": {"age": 20, "plan": "basic"}},
    ],
    "PlanPreference": [
        {"candidates": ["a short and tested plan", "a vague and slow plan", "nothing known"]},
        {"candidates": ["Clear."]},
        {"state": {"plan": "short"}},
    ],
}


def _trained() -> Iterator[tuple[str, Path]]:
    from policy_trainer import run, stop  # noqa: PLC0415 - the trainer's environment
    from trainer import agents, test_classifier, test_plan_preference  # noqa: PLC0415
    from trainer.worlds import config, reference  # noqa: PLC0415

    def train(name: str, recipe: str, block: str, settings: dict[str, Any], **more: Any) -> Path:
        folder = Path(name)
        fields = {"recipe": recipe, "sft": None, block: settings, "base": {}, **more}
        file = folder / "run.json"
        wire = config(folder, name, policy=name, **fields).to_wire()
        file.write_text(json.dumps(wire))
        os.environ |= {
            "POLICYOPS_RUN_FILE": str(file),
            "POLICYOPS_STATE_DIR": str(folder / "state"),
        }
        report = run.attempt(stop.StopRequest())
        assert report.artifact is not None, report.message
        return folder / "policies" / name / "1"

    for name, write in (
        ("agents", lambda file, rows: agents.write(file, rows, seed=rows)),
        ("churn", test_classifier.write),
        ("accepts", test_classifier.write),
        ("plans", test_plan_preference.write),
        ("offers", _customers),
    ):
        Path(name).mkdir()
        for part, rows in (("train", 600), ("validation", 300)):
            write(Path(name) / f"{part}.jsonl", rows)
    yield (
        "QNetwork",
        train("agents", "CQL", "cql", {"maxSteps": 400, "hidden": [16], "successReward": 5}),
    )
    leaves = {"label": "left", "positive": "yes", "forbidden": ["id", "seconds"]}
    small = {"rounds": 6, "maxDepth": 2, "learningRate": 0.5}
    yield "Classifier", train("churn", "Classifier", "classifier", {**leaves, "xgboost": small})
    linear = {**leaves, "forbidden": ["id", "seconds", "calls"], "logisticRegression": {}}
    model = train("accepts", "Classifier", "classifier", linear)
    made = [
        {"name": role, "artifact": reference(model, policy="accepts")}
        for role in ("risk", "acceptance")
    ]
    rules = {"value": "fee", "periods": 6, "iterations": 20, "customers": 256, "hidden": [8]}
    yield (
        "OfferPolicy",
        train(
            "offers",
            "ConstrainedPPO",
            "constrainedPPO",
            {**rules, "evaluationSeeds": 4},
            references=made,
        ),
    )
    yield "PlanPreference", train("plans", "PlanPreference", "planPreference", {"epochs": 20})


def _customers(file: Path, count: int) -> None:
    from trainer import test_classifier  # noqa: PLC0415 - see above

    test_classifier.write(file, count)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [json.dumps({**row, "fee": 20 + number % 80}) for number, row in enumerate(rows)]
    file.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Make the golden files anew."""
    # What is kept names no folder of this machine.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for kind, artifact in _trained():
            shutil.rmtree(FOLDER / kind, ignore_errors=True)
            shutil.copytree(artifact, FOLDER / kind)
            outcomes = opened(kind).decide([asked(fields) for fields in REQUESTS[kind]])
            pairs = zip(REQUESTS[kind], outcomes, strict=True)
            answers = [{"request": r, "answer": shown(o)} for r, o in pairs]
            (FOLDER / f"{kind}.{ANSWERS}").write_text(json.dumps(answers, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
