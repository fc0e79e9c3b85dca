"""Of each version that a training needs: is it there, may it come, or will it never. Pure."""

from collections.abc import Mapping

from policy_api import reasons, skew
from policy_api.contract.run import BaseArtifact
from policy_api.contract.uris import local_path
from policy_api.keys import COND_ACCEPTED, COND_SUCCEEDED
from policy_api.rules.conditions import get_condition
from policy_api.rules.needs import BASE, needs
from policy_api.v1alpha1.version import PolicyVersionSpec, PolicyVersionStatus, version_name

from policy_operator.machinery.cache import Cache, Obj
from policy_operator.training.status import may_go_on
from policy_operator.training.types import Dependency, Failed, Ready, Training, Waiting


def find(cache: Cache, training: Training, decided: Mapping[str, str]) -> dict[str, Dependency]:
    """Say of each version that is needed whether it is there, may come, or will never come.

    Args:
        cache: Where trainings and versions are looked up.
        training: The one that needs them.
        decided: Names of the PolicyVersions that the first attempt took, by role: later attempts
            take the same, even when the training that made one is gone.
    """
    found: dict[str, Dependency] = {}
    for role, reference in needs(training.spec).items():
        name = decided.get(role)
        if name is not None:
            found[role] = _decided(cache, training, role, name)
        elif reference.training is not None:
            found[role] = _of_training(cache, training, role, reference.training.name)
        elif reference.version is not None:
            named = version_name(reference.version.policy, reference.version.version)
            found[role] = _of_version(cache, training, role, named)
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
    if may_go_on(theirs.status):
        over_budget = verdict.reason == reasons.BUDGET_EXCEEDED
        end = "has used up its budget" if over_budget else "is over its deadline"
        return Waiting(f"waits for PolicyTraining {name}, which {end}")
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
    status = skew.read(PolicyVersionStatus, version.get("status") or {})
    accepted = get_condition(status.conditions, COND_ACCEPTED)
    if accepted is None:
        return Waiting(f"waits for PolicyVersion {name}, which is not judged yet")
    if accepted.status != "True":
        return Failed(f"PolicyVersion {name}, {_what(role)}, was not accepted: {accepted.message}")
    return ready(version)


def ready(version: Obj) -> Ready:
    """Return what a pod needs to open a PolicyVersion's artifact."""
    spec = skew.read(PolicyVersionSpec, version["spec"])
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
