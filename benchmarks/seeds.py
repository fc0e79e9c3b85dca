"""Every exit criterion of the examples' laptop overlays over many seeds; prints a table.

    python benchmarks/seeds.py [--seeds 1-20] [--threads 1] [--work FOLDER] [EXAMPLE …]

Each seed trains an example's whole chain, as `policyctl train --local` would: the data are those of
the data Job, the same for all seeds. The work folder keeps what was trained: a run that was stopped
goes on, and `--again TRAINING` repeats one stage alone, e.g. with another number of threads on top
of what `--like 1` thread made. Without `--work`, changed code starts a new folder. `--table-only`
prints what is there. Needs the trainer's environment.
"""

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("api", "cli", "examples", "models", "trainer_image")
for folder in FOLDERS:
    sys.path.insert(0, str(REPO / folder))
CACHE = Path(os.environ.get("POLICYOPS_CACHE", Path.home() / ".cache" / "policy-operator"))

# An example's overlays, in order; the data that its data Job makes: folder, rows, seed.
EXAMPLES = {
    "agent-selection": (
        ("laptop", "transfer"),
        (("agent-selection", 6000, 42), ("agent-selection-new-team", 6000, 7)),
    ),
    "flowlens": (("laptop",), (("flowlens", 1200, 42),)),
    "plan-preference": (("laptop",), (("plan-preference", 1200, 42),)),
    "retention": (("laptop",), (("retention", 1200, 42),)),
    "review-forge": (("training",), (("review-forge", 1200, 42),)),
}
PREPARED = {
    "flowlens": (
        ("SFT", "decisions.jsonl", ("--train", "90")),
        ("DPO", "labeled_decisions.jsonl", ("--train", "70", "--validation", "30")),
    )
}
HEADER = """\
| training | threads | criterion | wanted | min | median | max | met |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Place:
    """Where one example's chain of one seed is trained, with how many threads."""

    work: Path
    example: str
    threads: int
    seed: int

    @property
    def volumes(self) -> Path:
        """What `policyctl train --local` calls its volumes."""
        return self.work / self.example / f"threads-{self.threads}" / f"seed-{self.seed}"

    @property
    def store(self) -> Path:
        """Where its versions are."""
        return self.volumes / "artifacts" / "policies"


@dataclass(frozen=True)
class Found:
    """What became of one criterion."""

    training: str
    threads: int
    metric: str
    wanted: str
    observed: float
    met: bool


def make_data(work: Path, example: str) -> None:
    """Make an example's data once, as its data Job does."""
    from policy_examples import synthesize  # noqa: PLC0415 - after the threads are set
    from policy_trainer.data_tools.__main__ import main as tools  # noqa: PLC0415

    for name, count, seed in EXAMPLES[example][1]:
        output = work / "data" / name
        if (output / "made").exists():
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            synthesize.make(example, output, count, seed)
            for recipe, file, shares in PREPARED.get(name, ()):
                wanted = ["--output", str(output / recipe.lower()), "--test", "0", *shares]
                tools(["prepare", recipe, str(output / file), *wanted])
        (output / "made").touch()


def stages(place: Place) -> list[Any]:
    """Return an example's trainings in their order, with this seed, and nothing that only shows."""
    from policy_api.v1alpha1.store import Export  # noqa: PLC0415
    from policyctl import local, manifests  # noqa: PLC0415

    made = []
    for overlay in EXAMPLES[place.example][0]:
        for stage in local.ordered(
            manifests.read([str(REPO / "examples" / place.example / overlay)])
        ):
            artifact = stage.spec.artifact
            kept = [
                e for e in artifact.exports or [] if e is Export.ONNX and stage.spec.recipe == "CQL"
            ]
            lean = artifact.model_copy(update={"bundle": False, "exports": kept})
            spec = stage.spec.model_copy(update={"seed": place.seed, "artifact": lean})
            made.append(replace(stage, spec=spec))
    return made


def train(place: Place, stage: Any, *, again: bool) -> None:
    """Train one stage in this process, unless it is there already."""
    from policy_trainer import run as runs  # noqa: PLC0415
    from policy_trainer.stop import StopRequest  # noqa: PLC0415
    from policyctl import local  # noqa: PLC0415

    names = [other.name for other in stages(place)]
    wanted = local.config(stage, local.Place(place.volumes), names)
    if again:
        for old in place.store.glob("*/*/policy.json"):
            if json.loads(old.read_text())["training"]["name"] == stage.name:
                shutil.rmtree(old.parent)
    if wanted.compute.processes_per_node > 1 or wanted.compute.deepspeed is not None:
        kept = replace(stage, spec=stage.spec.model_copy(update={"on_unmet": "Keep"}))
        local.train([kept], local.Place(place.volumes), again=False, verbose=False, say=_quiet)
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "run.json"
        file.write_text(json.dumps(wanted.to_wire()))
        os.environ["POLICYOPS_RUN_FILE"] = str(file)
        os.environ["POLICYOPS_STATE_DIR"] = scratch
        report = runs.attempt(StopRequest())
    if report.artifact is None:
        raise SystemExit(f"{stage.name}, seed {place.seed}: {report.outcome}: {report.message}")


def _quiet(_line: str) -> None:
    """Say nothing."""


def run_all(place: Place, only: Sequence[str], again: Sequence[str], like: int | None) -> None:
    """Train one example's chain with one seed, or only some of its stages."""
    if like is not None and not place.store.exists():
        shutil.copytree(replace(place, threads=like).store, place.store)
    make_data(place.work, place.example)
    link = place.volumes / "artifacts" / "data"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place.work.resolve() / "data")
    for stage in stages(place):
        if only and stage.name not in only:
            continue
        began = time.monotonic()
        train(place, stage, again=stage.name in again)
        seconds = time.monotonic() - began
        said = "; ".join(
            f"{f.metric} {f.observed:.4g}{'' if f.met else ' NOT MET'}"
            for f in verdicts(place)
            if f.training == stage.name
        )
        print(
            f"seed {place.seed} {stage.name} {seconds:.0f} s: {said}", file=sys.stderr, flush=True
        )


def verdicts(place: Place) -> Iterator[Found]:
    """Yield what became of each criterion, with the end of an interval that was asked for."""
    for file in sorted(place.store.glob("*/*/policy.json")):
        made = json.loads(file.read_text())
        name = made["training"]["name"]
        intervals = {metric["name"]: metric for metric in made["metrics"]}
        for verdict, criterion in zip(
            made["exitCriteria"], made["config"]["exitCriteria"], strict=True
        ):
            value, metric = verdict.get("observed", float("nan")), verdict["metric"]
            yield Found(name, place.threads, metric, verdict["wanted"], value, verdict["met"])
            if "lowerBound" in criterion and metric in intervals:
                low, bound = intervals[metric]["low"], criterion["lowerBound"]
                yield Found(
                    name, place.threads, f"{metric}, low end", f"> {bound:g}", low, low > bound
                )


def table(found: Sequence[Found]) -> str:
    """Return a Markdown table: a row for each criterion, over its seeds."""
    grouped: dict[tuple[str, int, str, str], list[Found]] = {}
    for one in found:
        grouped.setdefault((one.training, one.threads, one.metric, one.wanted), []).append(one)
    lines = [HEADER]
    for (training, threads, metric, wanted), ones in grouped.items():
        values = [one.observed for one in ones]
        middle = statistics.median(values)
        numbers = " | ".join(f"{value:.3g}" for value in (min(values), middle, max(values)))
        met = f"{sum(one.met for one in ones)} of {len(ones)}"
        lines.append(f"| `{training}` | {threads} | `{metric}` | {wanted} | {numbers} | {met} |")
    return "\n".join(lines)


def code() -> str:
    """Return a digest of what decides the outcome: the programs and the examples."""
    found = hashlib.sha256()
    for part in (*FOLDERS, "examples"):
        for file in sorted((REPO / part).rglob("*")):
            if file.suffix in {".py", ".yaml"}:
                found.update(file.read_bytes())
    return found.hexdigest()[:12]


def main() -> int:
    """Train and print; exit code 1 when a criterion was not met somewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE", help="all without")
    parser.add_argument("--seeds", default="1-20", help="e.g. 1-20 or 7,42")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where everything is kept")
    parser.add_argument("--only", action="append", default=[], metavar="TRAINING")
    parser.add_argument("--again", action="append", default=[], metavar="TRAINING")
    parser.add_argument("--like", type=int, metavar="THREADS", help="other stages come from there")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(given.threads):  # read when torch is imported
        told = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "TQDM_DISABLE": "1"}
        return subprocess.run([sys.executable, *sys.argv], env=told, check=False).returncode
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    work = given.work or CACHE / "seeds" / code()
    places = [
        Place(work, example, given.threads, seed)
        for seed in _seeds(given.seeds)
        for example in given.examples or EXAMPLES
    ]
    if not given.table_only:
        for place in places:
            run_all(place, given.only, given.again, given.like)
    found = [verdict for place in places for verdict in verdicts(place)]
    print(table(sorted(found, key=lambda one: (one.training, one.threads))))
    return int(not all(one.met for one in found))


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if last:
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
