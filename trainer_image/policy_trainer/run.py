"""One process of a run: `python -m policy_trainer.run`, alone or under torchrun.

Reads the run's config, runs its recipe and says by file how it ended; rank 0 also writes the
artifact. The exit code says the same, but torchrun does not pass it on.
"""

import importlib
import logging
import os
import sys
import time
import warnings
from pathlib import Path

from policy_api.contract import environment
from policy_api.contract.report import EXIT_CODES, Outcome, TrainingReport
from policy_api.contract.run import RunConfig, parse_run
from policy_api.v1alpha1.recipes.blocks import field_of
from policy_models import answers
from pydantic import ValidationError

from policy_trainer import state
from policy_trainer.errors import ConfigInvalidError, PreemptedError, RunError
from policy_trainer.process import Process
from policy_trainer.result import Trained
from policy_trainer.stop import StopRequest

log = logging.getLogger("policy_trainer")


def read_config() -> RunConfig:
    """Read the mounted config.

    Raises:
        ConfigInvalidError: this image cannot do what it says; names the field.
    """
    file = Path(
        os.environ.get("POLICYOPS_RUN_FILE", f"{environment.RUN_DIR}/{environment.RUN_FILE}")
    )
    try:
        run, ignored = parse_run(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigInvalidError(f"{file}: {field}: {first['msg']}", field) from error
    except OSError as error:
        raise ConfigInvalidError(f"cannot read the run's config: {error}") from error
    except ValueError as error:
        raise ConfigInvalidError(str(error)) from error
    if ignored is not None:
        log.warning("run.json has %s, which this image does not know: it is ignored", ignored)
    return run


def train(run: RunConfig, process: Process, stop: StopRequest) -> Trained:
    """Run the recipe, importing only what it needs.

    Raises:
        ConfigInvalidError: no answer can be judged by the answer schema; names its field.
    """
    for field, fault in answers.faults(run.answer_schema):
        raise ConfigInvalidError(fault, field)
    name = field_of(run.recipe)
    block = getattr(run, name)
    assert block is not None  # the spec's rules ask for it
    module = importlib.import_module(f"policy_trainer.recipes.{name}")
    trained: Trained = module.train(run, block, process, stop)
    return trained


def execute(run: RunConfig, process: Process, stop: StopRequest, began: float) -> TrainingReport:
    """Run the recipe, evaluate, write the artifact and return the report."""
    from policy_trainer import artifact, storage  # noqa: PLC0415 - seconds of imports

    store = storage.open_store(run.store.path)
    if earlier := artifact.finished(store, run):
        reported, manifest = earlier
        log.info("an earlier attempt has finished %s", reported.uri)
        return TrainingReport(
            outcome=Outcome.COMPLETED, metrics=manifest.metrics, artifact=reported
        )
    trained = train(run, process, stop)
    report = TrainingReport(
        outcome=Outcome.COMPLETED,
        step=trained.fitted.step,
        max_steps=trained.fitted.step,
        resumed_from_step=trained.fitted.resumed_from_step,
        message=trained.fitted.stopped_early or "",
    )
    if trained.evaluated is None:
        return report
    for metric in trained.evaluated.metrics:
        log.info("%s %g [%s, %s]", metric.name, metric.value, metric.low, metric.high)
    reported = artifact.write(store, run, trained, trained.evaluated, began)
    log.info("wrote %s", reported.uri)
    return report.model_copy(
        update={"metrics": tuple(trained.evaluated.metrics), "artifact": reported}
    )


def attempt(stop: StopRequest) -> TrainingReport:
    """Do one attempt; every error becomes a report."""
    began = time.monotonic()
    try:
        run = read_config()
        from policy_trainer import process as processes  # noqa: PLC0415 - after the config

        process = processes.join(run)
        report = execute(run, process, stop, began)
        # The other ranks do not wait for rank 0's evaluation: it may take longer than a collective
        # may, and their pods' work is done.
        if process.first:
            from policy_trainer import checkpoint, retention  # noqa: PLC0415 - see execute

            checkpoint.Checkpoints.open(run, process).forget()
            if (rules := checkpoint.read_rules()) is not None:
                retention.sweep(run, rules)
    except PreemptedError as error:
        log.info("%s", error)
        return TrainingReport(
            outcome=error.outcome,
            message=error.message,
            step=error.step,
            max_steps=error.max_steps,
            resumed_from_step=error.resumed_from_step,
        )
    except RunError as error:
        log.error("%s: %s", error.field or error.outcome, error)  # noqa: TRY400 - for its user
        return TrainingReport(outcome=error.outcome, message=error.message, field=error.field)
    except Exception as error:
        log.exception("the trainer failed")
        outcome = Outcome.OUT_OF_MEMORY if out_of_memory(error) else Outcome.TRAINER_FAILED
        return TrainingReport(outcome=outcome, message=f"{type(error).__name__}: {error}")
    return report


def out_of_memory(error: Exception) -> bool:
    """Say whether an exception means that there was not enough memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's
        or "can't allocate memory" in str(error)  # torch's allocator on CPU
    )


def main() -> None:
    """Run and exit with the outcome's code."""
    stop = StopRequest.install()
    os.environ["TQDM_DISABLE"] = "1"  # a pod's log is no terminal
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.WARNING,
        format=f"%(asctime)s %(levelname)s rank={rank} %(name)s: %(message)s",
        stream=sys.stdout,
    )
    log.setLevel(logging.INFO)
    report = attempt(stop)
    state.write_outcome(rank, report)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by returning: on CPU a run that had trained well has died in the destructors of the
    # process group, with SIGABRT.
    os._exit(EXIT_CODES[report.outcome])


if __name__ == "__main__":
    main()
