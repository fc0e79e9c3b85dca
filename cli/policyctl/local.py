"""Run trainings on this machine, with the code that a pod runs: no cluster.

What a pod finds in volumes is found in folders: `pvc://claim/path` is `<volumes>/claim/path`, a
ConfigMap's key `<volumes>/name/key`, and a relative `file://path` starts where the manifest is.
The same manifest trained again finds what it made before, or goes on where it was stopped.
"""

import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from policy_api.contract.artifact import MANIFEST, PolicyManifest
from policy_api.contract.environment import RUN_FILE
from policy_api.contract.report import EXIT_CODES, Outcome, TrainingReport
from policy_api.contract.run import BaseArtifact, RunConfig, RunTraining
from policy_api.rules import criteria
from policy_api.rules.needs import BASE, needs
from policy_api.rules.resolve import resolve
from policy_api.v1alpha1.criteria import OnUnmet
from policy_api.v1alpha1.inputs import Reference
from policy_api.v1alpha1.recipes.common import Recipe

from policyctl import artifacts
from policyctl.errors import UserError
from policyctl.manifests import Manifest, trainings
from policyctl.progress import Progress

WITHOUT_TORCH = frozenset({Recipe.PLAN_PREFERENCE})
EXIT_UNMET = 3  # trained, and its exit criteria say no
LOOK_SECONDS = 0.2
ATTEMPTS = "attempts"  # folder beside the volumes
SPENT = "spent-seconds"  # file there: how long a training has run before
_NAMED = re.compile(r"^(?:pvc|configmap)://([^/]+)/?(.*)$")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where things are on this machine."""

    volumes: Path

    def path_of(self, folder: Path) -> Callable[[str], str]:
        """Return what turns a manifest's URIs into paths; the manifest is in this folder."""

        def path(uri: str) -> str:
            if named := _NAMED.match(uri):
                return str(self.volumes / named[1] / named[2])
            if uri.startswith("file://"):
                return str((folder / uri.removeprefix("file://")).resolve())
            return uri

        return path


def train(
    manifests: Sequence[Manifest], place: Place, *, again: bool, verbose: bool, say: Say
) -> int:
    """Run trainings, each after those that it needs; return the first exit code that is not 0.

    Args:
        manifests: What to train.
        place: Where volumes are.
        again: Train anew also what was trained before.
        verbose: Show the trainer's log.
        say: Prints a line.

    Raises:
        UserError: a training cannot be run.
    """
    check_trainer(m.spec.recipe for m in manifests)
    kept = [m.name for m in manifests if m.spec.on_unmet is OnUnmet.KEEP]
    for manifest in ordered(manifests):
        run = config(manifest, place, kept, again=again)
        code = _train_one(manifest, run, place, verbose=verbose, say=say)
        if code:
            return code
    return 0


def check_trainer(recipes: Iterable[Recipe | None] = (None,)) -> None:
    """Refuse to go on without the trainer.

    Args:
        recipes: What is to be trained; None: what needs all of the trainer.

    Raises:
        UserError: says how to install it.
    """
    if all(recipe in WITHOUT_TORCH for recipe in recipes):
        if find_spec("numpy") is None:
            raise UserError(
                "this runs the trainer on this machine: pip install 'policy-operator[cli,serve]'"
            )
    elif find_spec("torch") is None:
        raise UserError(
            "this runs the trainer on this machine: pip install 'policy-operator[trainer]'"
        )


def environment() -> dict[str, str]:
    """Return the environment of a program of the trainer: with the packages that this one sees."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def program(
    module: str,
    arguments: Sequence[str],
    told: Mapping[str, str] | None = None,
    hear: Say | None = None,
) -> int:
    """Run a program of this environment; return its exit code.

    Args:
        module: The program.
        arguments: Its own.
        told: Environment variables beside ours.
        hear: Takes each line that it prints; without, they are printed.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**environment(), **(told or {})},
        stdout=None if hear is None else subprocess.PIPE,
        text=True,
    )

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGTERM:  # a Ctrl-C reaches the child as well
            child.terminate()

    with _handled(stop):  # it removes what it has half-written before it ends
        if hear is not None and child.stdout is not None:
            for line in child.stdout:
                hear(line)
        return child.wait()


def validate_data(manifests: Sequence[Manifest], place: Place, say: Say) -> int:
    """Read the data of trainings as they would; return the first exit code that is not 0."""
    first = 0
    for manifest in manifests:
        run = _resolved(manifest, place, "validate", None, {})
        with tempfile.NamedTemporaryFile("w", prefix="policyctl-", suffix=".json") as file:
            file.write(json.dumps(run.to_wire()))
            file.flush()
            say(f"{manifest.name}: recipe {run.recipe}")
            code = program("policy_trainer.data_tools", ["validate", "--run", file.name])
        first = first or code
    return first


def ordered(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return trainings so that each comes after those that it names; none waits for itself.

    Raises:
        UserError: two have one name.
    """
    left = {manifest.name: manifest for manifest in manifests}
    if len(left) < len(manifests):
        raise UserError("two PolicyTrainings have the same name")
    done: list[Manifest] = []
    while left:
        free = [manifest for manifest in left.values() if not left.keys() & trainings(manifest)]
        done += free
        for manifest in free:
            del left[manifest.name]
    return done


def config(
    manifest: Manifest, place: Place, kept: Collection[str] = (), *, again: bool = False
) -> RunConfig:
    """Return what the trainer reads; as many processes as the pods would have, on this machine.

    Args:
        manifest: What to train.
        place: Where volumes are.
        kept: Names of trainings whose result may be used although it was not accepted.
        again: It is a training of its own, also if it was run before.

    Raises:
        UserError: what it starts from is not there.
    """
    spec = manifest.spec
    path_of = place.path_of(manifest.folder)
    store = Path(path_of(spec.artifact.uri))
    found = {
        role: _found(store, spec.artifact.uri, reference, kept)
        for role, reference in needs(spec).items()
    }
    uid = secrets.token_hex(16) if again else _uid(manifest, found.values())
    return _resolved(manifest, place, uid, found.pop(BASE, None), found)


def _resolved(
    manifest: Manifest,
    place: Place,
    uid: str,
    base: BaseArtifact | None,
    references: Mapping[str, BaseArtifact],
) -> RunConfig:
    spec = manifest.spec
    compute = spec.compute
    each = compute.processes_per_node or max(1, compute.gpus_per_node)
    whole = {"nodes": 1, "processes_per_node": compute.nodes * each}
    return resolve(
        spec.model_copy(update={"compute": compute.model_copy(update=whole)}),
        RunTraining(namespace=manifest.namespace, name=manifest.name, uid=uid),
        attempt=0,
        spent_seconds=0,
        min_version=1,
        base=base,
        references=references,
        path_of=place.path_of(manifest.folder),
        trainer_image=None,
    )


def _found(store: Path, uri: str, reference: Reference, kept: Collection[str]) -> BaseArtifact:
    if reference.training is not None:
        return _of_training(store, uri, reference.training.name, kept)
    assert reference.version is not None  # the API's rule: it is one of both
    return _of_version(store, uri, reference.version.policy, reference.version.version)


def _of_training(store: Path, uri: str, name: str, kept: Collection[str]) -> BaseArtifact:
    """Return the newest artifact that a training of this name made, if it was accepted."""
    found = [
        (made.created_at, folder, made)
        for folder in store.glob(f"*/*/{MANIFEST}")
        if (made := artifacts.load(folder.parent)).training["name"] == name
    ]
    if not found:
        raise UserError(f"PolicyTraining {name} has made nothing in {store}: train it first")
    _, file, made = max(found, key=lambda entry: entry[0])
    return _accepted(file.parent, uri, made, kept=name in kept)


def _of_version(store: Path, uri: str, policy: str, number: int) -> BaseArtifact:
    folder = store / policy / str(number)
    if not (folder / MANIFEST).is_file():
        raise UserError(f"there is no version {number} of {policy} in {store}")
    return _accepted(folder, uri, artifacts.load(folder))


def _accepted(folder: Path, uri: str, made: PolicyManifest, *, kept: bool = False) -> BaseArtifact:
    if not kept and not all(verdict.met for verdict in made.exit_criteria):
        raise UserError(
            f"{made.policy} version {made.version} in {folder} was not accepted: "
            f"{criteria.summary(made.exit_criteria)}"
        )
    return BaseArtifact(
        uri=f"{uri.rstrip('/')}/{made.policy}/{made.version}",
        path=str(folder),
        sha256=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        policy=made.policy,
        version=made.version,
    )


def _train_one(manifest: Manifest, run: RunConfig, place: Place, *, verbose: bool, say: Say) -> int:
    folder = place.volumes / ATTEMPTS / f"{manifest.name}-{run.training.uid[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    spent = folder / SPENT  # seconds, as text: of the runs that were stopped
    earlier = int(spent.read_text()) if spent.is_file() else 0
    run = run.model_copy(update={"spent_seconds": earlier})
    (folder / RUN_FILE).write_text(json.dumps(run.to_wire(), indent=1))
    say(f"{manifest.name}: recipe {run.recipe}, seed {run.seed}")
    began = time.monotonic()
    report = _supervised(folder, verbose=verbose)
    spent.write_text(str(earlier + round(time.monotonic() - began)))
    if report.outcome is not Outcome.COMPLETED or report.artifact is None:
        where = f" ({report.field})" if report.field else ""
        say(f"{manifest.name}: {report.outcome}{where}: {report.message}")
        if report.outcome is Outcome.TRAINER_FAILED:
            say(f"its log is {folder / 'trainer.log'}")
        if report.outcome is Outcome.PREEMPTED:
            say("run the same command again to go on")
        return EXIT_CODES[report.outcome]
    made = Path(run.store.path) / run.policy / str(report.artifact.version)
    return _told(manifest, artifacts.load(made), made, say)


def _uid(manifest: Manifest, needed: Iterable[BaseArtifact]) -> str:
    """Return the same uid for the same manifest on the same versions: a stopped run is found."""
    lasting = manifest.spec.model_copy(update={"budget": None})  # what it may cost may change
    spec = json.dumps(lasting.to_wire(), sort_keys=True)
    versions = [artifact.sha256 for artifact in needed]
    known = "\n".join([f"{manifest.namespace}/{manifest.name}", spec, *versions])
    return hashlib.sha256(known.encode()).hexdigest()[:32]


def _told(manifest: Manifest, made: PolicyManifest, folder: Path, say: Say) -> int:
    for line in artifacts.table(made):
        say(line)
    if made.stopped_early:
        say(f"{manifest.name}: stopped early, {made.stopped_early}")
    if made.costs and (cost := made.costs[-1].cost).usd is not None:
        say(f"{manifest.name}: cost {artifacts.cost_of(cost)}")
    for verdict in made.exit_criteria:
        state = "met" if verdict.met else "NOT met"
        observed = verdict.message or f"{verdict.observed:.4g}"
        say(f"  {state}: {verdict.metric} {observed}, wanted {verdict.wanted}")
    accepted = all(verdict.met for verdict in made.exit_criteria)
    word = "accepted" if accepted else "NOT accepted"
    say(f"{manifest.name}: {made.policy} version {made.version}, {word}: {folder}")
    if (report := folder / "bundle" / "report.html").is_file():
        say(f"its report: {report}")
    if accepted or manifest.spec.on_unmet is OnUnmet.KEEP:
        return 0
    return EXIT_UNMET


def _supervised(folder: Path, *, verbose: bool) -> TrainingReport:
    """Run the supervisor, as PID 1 of a pod does, and show how far it is."""
    termination = folder / "report.json"
    state = folder / "state"
    termination.unlink(missing_ok=True)
    told = {
        **environment(),
        "POLICYOPS_RUN_FILE": str(folder / RUN_FILE),
        "POLICYOPS_STATE_DIR": str(state),
        "POLICYOPS_TERMINATION_LOG": str(termination),
    }
    progress = Progress(state)
    progress.forget()
    with (folder / "trainer.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "policy_trainer.supervisor"],
            env=told,
            stdout=None if verbose else log,
            stderr=None if verbose else log,
            # A Ctrl-C is for us: the workers stop at the end of a step, not in its middle.
            start_new_session=True,
        )
        _watch(child, progress)
    if not termination.is_file():
        message = f"the trainer ended with {child.returncode} and said nothing"
        return TrainingReport(outcome=Outcome.TRAINER_FAILED, message=message)
    return TrainingReport.model_validate_json(termination.read_bytes())


def _watch(child: subprocess.Popen[bytes], progress: Progress) -> None:
    """Wait for the end; SIGINT and SIGTERM ask the trainer to stop, once."""

    def stop(_number: int, _frame: object) -> None:
        progress.note("stopping at the end of this step")
        child.send_signal(signal.SIGTERM)

    with closing(progress), _handled(stop):
        while True:
            try:
                child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                progress.show()
                continue
            break


@contextmanager
def _handled(stop: Callable[[int, object], None]) -> Iterator[None]:
    """Call this on SIGINT and SIGTERM instead of ending."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
