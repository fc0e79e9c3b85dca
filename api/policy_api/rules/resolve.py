"""From a spec to the config of one attempt: the same for the operator and for a laptop. Pure."""

from collections.abc import Callable, Mapping

from policy_api.contract.run import (
    BaseArtifact,
    RunBase,
    RunConfig,
    RunFile,
    RunInput,
    RunReference,
    RunStore,
    RunTraining,
)
from policy_api.v1alpha1.inputs import Base
from policy_api.v1alpha1.training import PolicyTrainingSpec


def resolve(
    spec: PolicyTrainingSpec,
    training: RunTraining,
    *,
    attempt: int,
    spent_seconds: int,
    min_version: int,
    base: BaseArtifact | None,
    references: Mapping[str, BaseArtifact],
    path_of: Callable[[str], str],
    trainer_image: str | None,
) -> RunConfig:
    """Return run.json.

    Args:
        spec: As the user wrote it.
        training: Whose attempt it is.
        attempt: 0, 1, 2…
        spent_seconds: How long the pods of earlier attempts ran.
        min_version: First number that may be free.
        base: The artifact that `base.training` or `base.version` stands for.
        references: The artifacts that take part, by role: `reward`, `version:3`.
        path_of: Where the trainer finds what a URI names.
        trainer_image: Image of the pod, if there is one.
    """
    start = spec.base
    return RunConfig(
        **spec.blocks(),
        training=training,
        attempt=attempt,
        policy=spec.policy,
        min_version=min_version,
        tag=spec.tag,
        seed=spec.seed,
        base=RunBase(
            model=start.model if start is not None else None,
            scratch=start.scratch if start is not None else None,
            artifact=base,
            onnx=_file(start, path_of),
        ),
        references=tuple(RunReference(name=n, artifact=a) for n, a in references.items()),
        judge=spec.judge,
        adapter=spec.adapter,
        data=tuple(
            RunInput(
                name=d.name,
                uri=d.uri,
                path=path_of(d.uri),
                sha256=d.sha256,
                max_rows=d.max_rows,
                split=d.split,
            )
            for d in spec.data
        ),
        exit_criteria=tuple(spec.exit_criteria),
        stop_early=tuple(spec.stop_early),
        answer_schema=spec.answer_schema,
        budget=spec.budget,
        spent_seconds=spent_seconds,
        compute=spec.compute,
        checkpoints=spec.checkpoints,
        store=RunStore(
            uri=spec.artifact.uri,
            path=path_of(spec.artifact.uri),
            exports=tuple(spec.artifact.exports),
            gguf_types=tuple(spec.artifact.gguf_types),
            bundle=spec.artifact.bundle,
        ),
        trainer_image=trainer_image,
    )


def _file(base: Base | None, path_of: Callable[[str], str]) -> RunFile | None:
    if base is None or base.onnx is None:
        return None
    return RunFile(uri=base.onnx.uri, path=path_of(base.onnx.uri), sha256=base.onnx.sha256)
