"""The versions that a training needs: what it starts from, and what takes part in it. Pure.

Each has a role: `base`, a name of spec.referenceModels, `judge`, or `version:<N>` of a criterion
that judges `against` it.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

from policy_api.v1alpha1.inputs import Reference, VersionRef
from policy_api.v1alpha1.training import PolicyTrainingSpec

BASE = "base"  # the role of what training starts from
JUDGE = "judge"  # of the model that judges answers


def needs(spec: PolicyTrainingSpec) -> dict[str, Reference]:
    """Return what the spec names, by role: a training, or a version of a policy."""
    made: dict[str, Reference] = {}
    base, models = spec.base, spec.reference_models
    if base is not None and base.training is not None:
        made[BASE] = Reference(training=base.training)
    elif base is not None and base.version is not None:
        made[BASE] = _version(spec, base.version)
    for role in type(models).model_fields if models is not None else ():
        reference: Reference | None = getattr(models, role)
        if reference is not None:
            made[role] = reference
    if spec.judge is not None and spec.judge.training is not None:
        made[JUDGE] = Reference(training=spec.judge.training)
    for criterion in spec.exit_criteria:
        if criterion.against.startswith("version:"):
            number = int(criterion.against.removeprefix("version:"))
            made[criterion.against] = _version(spec, number)
    return made


def _version(spec: PolicyTrainingSpec, number: int) -> Reference:
    return Reference(version=VersionRef(policy=spec.policy, version=number))


def cycle(start: str, waits_for: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """Return the names on a way from a training back to itself; none when there is no such way.

    Args:
        start: Name of the training.
        waits_for: Returns the names of what a training waits for.
    """
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)  # the shortest ways first: the sentence is short
        for name in waits_for(way[-1]):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()


def cycle_sentence(names: tuple[str, ...]) -> str:
    """Say who waits for whom: `a waits for b, b for c, c for a`."""
    if len(names) == 1:
        return f"{names[0]} waits for itself"
    (first, second), *others = pairwise([*names, names[0]])
    return ", ".join([f"{first} waits for {second}", *(f"{a} for {b}" for a, b in others)])
