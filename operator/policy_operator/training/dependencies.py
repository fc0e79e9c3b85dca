"""Of each version that a training needs: is it there, may it come, or will it never. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from policy_api import reasons, skew
from policy_api.contract.run import BaseArtifact
from policy_api.contract.uris import local_path
from policy_api.keys import (
    COND_ACCEPTED,
    COND_SUCCEEDED,
    KIND_TRAINING,
    KIND_VERSION,
    LABEL_TRAINING,
)
from policy_api.rules.conditions import get_condition
from policy_api.rules.needs import BASE, cycle, cycle_sentence, needs
from policy_api.v1alpha1.training_status import DependencyStatus
from policy_api.v1alpha1.version import PolicyVersionSpec, PolicyVersionStatus, version_name

from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.wakes import named_trainings
from policy_operator.training.status import may_go_on
from policy_operator.training.types import Dependency, Failed, Later, Ready, Training, Waiting

# What is applied together is there within this time, also over a slow connection.
PATIENCE = timedelta(seconds=60)


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
            other = reference.training.name
            circle = _circle(cache, training, other)
            found[role] = circle or _of_training(cache, training, role, other)
        elif reference.version is not None:
            named = version_name(reference.version.policy, reference.version.version)
            found[role] = _of_version(cache, training, role, named)
    return found


def _what(role: str) -> str:
    return "its base" if role == BASE else f"its {role} model" if ":" not in role else role


def _decided(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    version = cache.get(KIND_VERSION, training.meta.namespace, name)
    if version is None:
        return Failed(f"PolicyVersion {name}, {_what(role)}, was deleted")
    return ready(version)


def _of_training(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    other = cache.get(KIND_TRAINING, training.meta.namespace, name)
    if other is None:
        return _of_deleted_training(cache, training, role, name)
    theirs = Training.parse(other)
    verdict = get_condition(theirs.status.conditions, COND_SUCCEEDED)
    if verdict is None or verdict.status == "Unknown":
        state = theirs.status.state or "new"
        return Waiting(f"waits for PolicyTraining {name}, which is {state}", theirs.meta.uid)
    if may_go_on(theirs.status):
        over_budget = verdict.reason == reasons.BUDGET_EXCEEDED
        end = "has used up its budget" if over_budget else "is over its deadline"
        return Waiting(f"waits for PolicyTraining {name}, which {end}", theirs.meta.uid)
    if verdict.status == "False":
        said = f"{verdict.reason}: {verdict.message}"
        return Failed(f"PolicyTraining {name}, {_what(role)}, failed ({said})")
    number = theirs.status.version
    made = version_name(theirs.spec.policy, number) if number is not None else ""
    version = cache.get(KIND_VERSION, training.meta.namespace, made)
    if version is None or version["spec"]["training"]["uid"] != theirs.meta.uid:
        return Failed(
            f"PolicyTraining {name}, {_what(role)}, succeeded, but its PolicyVersion {made} is gone"
        )
    return replace(ready(version), maker=theirs.meta.uid)


def _of_deleted_training(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    """Let the version that a training made answer for it, once it is deleted (by its TTL).

    One that was waited for is known by its uid: only its own version counts. Otherwise the newest
    version of that name does, but not at once: whoever applies both again may not have made the
    training yet, whose new version is wanted.
    """
    made = [
        v
        for v in cache.list(KIND_VERSION, training.meta.namespace, {LABEL_TRAINING: name})
        if v["spec"]["training"]["name"] == name
    ]
    seen = next((d.training_uid for d in training.status.dependencies if d.role == role), None)
    if seen is not None:
        made = [v for v in made if v["spec"]["training"]["uid"] == seen]
    if not made:
        gone = "was deleted before it had made a version" if seen else "does not exist yet"
        return Waiting(f"waits for PolicyTraining {name}, which {gone}", seen)
    newest = max(made, key=_age)
    label = newest["metadata"]["name"]
    if not _usable(newest):
        message = f"waits for PolicyTraining {name}: it is deleted, and {label} was not accepted"
        return Waiting(message, seen)
    note = f"PolicyTraining {name}, which is deleted, made it"
    found = replace(ready(newest), maker=seen, note=note)
    created = training.meta.creation_timestamp
    if seen is not None or created is None:
        return found
    until = created + PATIENCE
    message = (
        f"PolicyTraining {name} does not exist; unless it does by {until:%H:%M:%S} UTC, "
        f"PolicyVersion {label} of an earlier one is taken"
    )
    return Later(until, message, found)


def _age(version: Obj) -> tuple[str, int]:
    return version["metadata"].get("creationTimestamp", ""), version["spec"]["version"]


def _usable(version: Obj) -> bool:
    """Whether others may start from it: accepted, or kept although its criteria were unmet."""
    status = skew.read(PolicyVersionStatus, version.get("status") or {})
    accepted = get_condition(status.conditions, COND_ACCEPTED)
    return accepted is not None and (accepted.status == "True" or accepted.reason == reasons.KEPT)


def _circle(cache: Cache, training: Training, name: str) -> Later | None:
    """Refuse trainings that wait for each other, once all of them are there for a while.

    While objects are made anew one by one, an old one may close a circle for a moment.
    """
    meta = training.meta
    members: dict[str, Obj] = {}

    def waits_for(other: str) -> Iterable[str]:
        if other == meta.name:
            return [name]
        found = cache.get(KIND_TRAINING, meta.namespace, other)
        if found is None or not _waits(found):
            return []
        members[other] = found
        return named_trainings(found["spec"])

    names = cycle(meta.name, waits_for)
    if not names or meta.creation_timestamp is None:
        return None
    made = [members[n]["metadata"].get("creationTimestamp") for n in names[1:]]
    youngest = max([meta.creation_timestamp, *(datetime.fromisoformat(t) for t in made if t)])
    message = (
        f"{cycle_sentence(names)}: none of them can start; delete one and make it again without "
        "that reference"
    )
    return Later(youngest + PATIENCE, message, Failed(message, reasons.CIRCULAR_DEPENDENCY))


def _waits(obj: Obj) -> bool:
    """Whether a training still needs what it waits for: it has neither started nor ended."""
    status = obj.get("status") or {}
    ended = any(
        c["type"] == COND_SUCCEEDED and c["status"] != "Unknown"
        for c in status.get("conditions") or ()
    )
    return not ended and not status.get("attempts")


def _of_version(cache: Cache, training: Training, role: str, name: str) -> Dependency:
    version = cache.get(KIND_VERSION, training.meta.namespace, name)
    if version is None:
        return Waiting(f"waits for PolicyVersion {name}, which does not exist")
    status = skew.read(PolicyVersionStatus, version.get("status") or {})
    accepted = get_condition(status.conditions, COND_ACCEPTED)
    if accepted is None:
        return Waiting(f"waits for PolicyVersion {name}, which is not judged yet")
    if accepted.status != "True":
        return Failed(f"PolicyVersion {name}, {_what(role)}, was not accepted: {accepted.message}")
    return ready(version)


def settled(found: Mapping[str, Dependency], now: datetime) -> dict[str, Dependency]:
    """Return what holds now, where something else was to hold later."""
    return {role: _settled(needed, now) for role, needed in found.items()}


def _settled(needed: Dependency, now: datetime) -> Dependency:
    if not isinstance(needed, Later):
        return needed
    return (
        needed.then if now >= needed.until else Waiting(needed.message, needed.maker, needed.until)
    )


def noted(
    known: Sequence[DependencyStatus], found: Mapping[str, Dependency], *, taken: bool
) -> list[DependencyStatus]:
    """Return what the status tells of the versions that a training needs.

    Args:
        known: What it told before.
        found: What holds now.
        taken: An attempt has been made: it has taken those that were there.
    """
    before = {d.role: d for d in known}
    told = []
    for role, needed in found.items():
        entry = before.get(role, DependencyStatus(role=role))
        if isinstance(needed, Ready | Waiting | Later) and needed.maker is not None:
            entry = entry.model_copy(update={"training_uid": needed.maker})
        if isinstance(needed, Ready) and taken and entry.version is None:
            entry = entry.model_copy(update={"version": needed.version_name})
        told.append(entry)
    return told


def taken_sentence(found: Mapping[str, Ready]) -> str:
    """Say which versions an attempt takes: `; its base is PolicyVersion forge-v1`."""
    parts = [
        f"{_what(role)} is PolicyVersion {needed.version_name}"
        + (f" ({needed.note})" if needed.note else "")
        for role, needed in found.items()
    ]
    return "".join(f"; {part}" for part in parts)


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
