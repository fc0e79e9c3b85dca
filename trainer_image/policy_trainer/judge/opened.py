"""The judge of a run: who it is, where its replies are kept."""

from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.rules.needs import JUDGE

from policy_trainer import references
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.judge.cache import Cache
from policy_trainer.judge.judge import Judge, Prices
from policy_trainer.process import Process


def of_run(run: RunConfig, process: Process) -> Judge:
    """Return the judge that `spec.judge` declares.

    Replies are kept beside the run's checkpoints, so an attempt that goes on pays for none twice,
    and `maxUSD` bounds all attempts.

    Raises:
        ConfigInvalidError: there is none, its key is missing, or it is no text model.
        DataInvalidError: the artifact is not the one that was accepted.
    """
    judge = run.judge
    if judge is None:
        raise ConfigInvalidError("a term of the reward asks for a judge: name one", "judge")
    cache = Cache(Checkpoints.open(run, process).beside(f"judge-{process.rank}.jsonl"))
    if judge.endpoint is not None:
        from policy_trainer.judge.endpoint import EndpointAsker  # noqa: PLC0415 - 1 s of imports

        return Judge(
            EndpointAsker(judge.endpoint, run.seed),
            judge.criteria,
            cache,
            prices=Prices.of(judge.endpoint),
            spent=cache.spent,
            processes=process.world_size,
        )
    from policy_trainer.judge.local import LocalAsker  # noqa: PLC0415 - torch

    name, field = str(judge.model), "judge.model"
    if (artifact := run.reference(JUDGE)) is not None:
        field = "judge.training"
        name = str(references.of_kind(artifact, Kind.CAUSAL_LM, field))
    return Judge(LocalAsker(name, field, process), judge.criteria, cache, spent=cache.spent)
