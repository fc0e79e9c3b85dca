"""The versions that a training needs: what it starts from, and what takes part in it. Pure.

Each has a role: `base`, a name of spec.referenceModels, or `version:<N>` of a criterion that judges
`against` it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from policy_api.conditions import get_condition
from policy_api.keys import COND_ACCEPTED, COND_SUCCEEDED
from policy_api.run import BaseArtifact
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.version import PolicyVersionSpec, PolicyVersionStatus, version_name

from policy_operator.cache import Cache, Obj
from policy_operator.training.storage import local_path
from policy_operator.training.types import BASE, Dependency, Failed, Ready, Training, Waiting


@dataclass(frozen=True)
class Wish:
    """What the spec names: a training, or a version."""

    training: str | None = None
    version: str | None = None
    """Name of the PolicyVersion."""


def wishes(spec: PolicyTrainingSpec) -> dict[str, Wish]:
    """Return what the spec names, by role."""
    made: dict[str, Wish] = {}
    if spec.base is not None and spec.base.training is not None:
        made[BASE] = Wish(training=spec.base.training.name)
    elif spec.base is not None and spec.base.version is not None:
        made[BASE] = Wish(version=version_name(spec.policy, spec.base.version))
    models = spec.reference_models
    for role in type(models).model_fields if models is not None else ():
        reference = getattr(models, role)
        if reference is None:
            continue
        if reference.training is not None:
            made[role] = Wish(training=reference.training.name)
        else:
            named = reference.version
            made[role] = Wish(version=version_name(named.policy, named.version))
    for criterion in spec.exit_criteria:
        if criterion.against.startswith("version:"):
            number = int(criterion.against.removeprefix("version:"))
            made[criterion.against] = Wish(version=version_name(spec.policy, number))
    return made


def find(cache: Cache, training: Training, decided: Mapping[str, str]) -> dict[str, Dependency]:
    """Say of each version that is needed whether it is there, may come, or will never come.

    Args:
        cache: Where trainings and versions are looked up.
        training: The one that needs them.
        decided: Names of the PolicyVersions that the first attempt took, by role: later attempts
            take the same, even when the training that made one is gone.
    """
    found: dict[str, Dependency] = {}
    for role, wish in wishes(training.spec).items():
        name = decided.get(role)
        if name is not None:
            found[role] = _decided(cache, training, role, name)
        elif wish.training is not None:
            found[role] = _of_training(cache, training, role, wish.training)
        else:
            found[role] = _of_version(cache, training, role, str(wish.version))
    return found


def _what(role: str) -> str:
    return "its base" if role == BASE else f"its {role} model" if ":" not in role else role


def _decided(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    version = cache.get("PolicyVersion", training.meta.namespace, name)
    if version is None:
        return Failed(f"PolicyVersion {name}, {_what(role)}, was deleted")
    return ready(version)


def _of_training(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    namespace = training.meta.namespace
    other = cache.get("PolicyTraining", namespace, name)
    if other is None:
        return Waiting(f"waits for PolicyTraining {name}, which does not exist yet")
    theirs = Training.parse(other)
    verdict = get_condition(theirs.status.conditions, COND_SUCCEEDED)
    if verdict is None or verdict.status == "Unknown":
        state = theirs.status.state or "new"
        return Waiting(f"waits for PolicyTraining {name}, which is {state}")
    if verdict.status == "False":
        said = f"{verdict.reason}: {verdict.message}"
        return Failed(f"PolicyTraining {name}, {_what(role)}, failed ({said})")
    number = theirs.status.version
    made = version_name(theirs.spec.policy, number) if number is not None else ""
    version = cache.get("PolicyVersion", namespace, made)
    if version is None or version["spec"]["training"]["uid"] != theirs.meta.uid:
        return Failed(
            f"PolicyTraining {name}, {_what(role)}, succeeded, but its PolicyVersion {made} is gone"
        )
    return ready(version)


def _of_version(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    version = cache.get("PolicyVersion", training.meta.namespace, name)
    if version is None:
        return Waiting(f"waits for PolicyVersion {name}, which does not exist")
    status = PolicyVersionStatus.model_validate(version.get("status") or {})
    accepted = get_condition(status.conditions, COND_ACCEPTED)
    if accepted is None:
        return Waiting(f"waits for PolicyVersion {name}, which is not judged yet")
    if accepted.status != "True":
        return Failed(f"PolicyVersion {name}, {_what(role)}, was not accepted: {accepted.message}")
    return ready(version)


def ready(version: Obj) -> Ready:
    """Return what a pod needs to open a PolicyVersion's artifact."""
    spec = PolicyVersionSpec.model_validate(version["spec"])
    secret = spec.artifact.secret_ref
    return Ready(
        artifact=BaseArtifact(
            uri=spec.artifact.uri,
            path=local_path(spec.artifact.uri),
            sha256=spec.artifact.sha256,
            policy=spec.policy,
            version=spec.version,
        ),
        version_name=version["metadata"]["name"],
        secret=secret.name if secret is not None else None,
    )
