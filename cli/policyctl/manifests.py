"""Read resources from files, and check them as the API server would, without one."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from policy_api.base import ApiModel
from policy_api.keys import KIND_DEPLOYMENT
from policy_api.rules.nearest import hint
from policy_api.rules.needs import cycle, cycle_sentence, needs
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec
from policy_api.v1alpha1.names import DEPLOYMENT, TRAINING, Names
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_models import answers
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from policyctl import rules
from policyctl.errors import UserError

KUSTOMIZATION = "kustomization.yaml"
KIND = "PolicyTraining"
Spec = TypeVar("Spec", bound=ApiModel)
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_NAME = rf"{_LABEL}(\.{_LABEL})*"  # what the API server takes as the name of any object
_NO_NAME = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)


class Loader(yaml.SafeLoader):
    """Reads `5e-6` as a number, as YAML 1.2 and kubectl do; PyYAML wants a point in it."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Manifest:
    """One PolicyTraining."""

    folder: Path
    """Relative paths in it start here."""
    namespace: str
    name: str
    spec: PolicyTrainingSpec


def read(paths: Sequence[str]) -> list[Manifest]:
    """Return the PolicyTrainings of files, of folders with a kustomization, or of `-`.

    Raises:
        UserError: a file cannot be read, or a manifest is not one; says every fault.
    """
    made, faults = [], []
    for path in paths:
        for folder, source, document in documents(path):
            if not isinstance(document, dict) or document.get("kind") != KIND:
                continue
            try:
                made.append(_manifest(folder, source, document))
            except UserError as error:
                faults.append(str(error))
    faults += _circles(made)
    if faults:
        raise UserError("\n".join(faults))
    if not made:
        raise UserError(f"no {KIND} in {', '.join(paths)}")
    return made


def trainings(manifest: Manifest) -> set[str]:
    """Return the names of the trainings that one waits for."""
    named = (reference.training for reference in needs(manifest.spec).values())
    return {training.name for training in named if training is not None}


def _circles(made: Sequence[Manifest]) -> Iterator[str]:
    """Yield a sentence for each circle of trainings that wait for each other."""
    waits = {manifest.name: sorted(trainings(manifest)) for manifest in made}
    told: set[str] = set()
    for name in waits:
        names = cycle(name, lambda other: waits.get(other, []))
        if names and name not in told:
            yield f"these {KIND}s can never start: {cycle_sentence(names)}"
        told.update(names)


def documents(path: str) -> Iterator[tuple[Path, str, Any]]:
    """Yield (folder, what to call it, document)."""
    if path == "-":
        yield from ((Path.cwd(), "stdin", d) for d in _parse("stdin", sys.stdin.read()))
        return
    file = Path(path)
    if file.is_dir():
        yield from _kustomized(file)
        return
    try:
        text = file.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    yield from ((file.parent, path, document) for document in _parse(path, text))


def _parse(source: str, text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader))
    except yaml.YAMLError as error:
        raise UserError(f"{source} is no YAML: {error}") from error


def _kustomized(folder: Path) -> Iterator[tuple[Path, str, Any]]:
    file = folder / KUSTOMIZATION
    if not file.is_file():
        raise UserError(f"{folder} has no {KUSTOMIZATION}; name its files instead")
    (wanted,) = _parse(str(file), file.read_text()) or [{}]
    for field in ("patches", "components", "namePrefix", "nameSuffix", "replacements"):
        if field in wanted:
            raise UserError(
                f"{file} has {field}, which only kustomize applies: "
                f"kubectl kustomize {folder} | policyctl … -"
            )
    for resource in wanted.get("resources", []):
        yield from documents(str(folder / resource))


def _manifest(folder: Path, source: str, document: dict[str, Any]) -> Manifest:
    name, spec = _checked(source, document, PolicyTrainingSpec, TRAINING)
    patterns = [
        f"{source}: {KIND} {name}: spec.{field}: {said}"
        for field, said in answers.faults(spec.answer_schema)
    ]
    if patterns:
        raise UserError("\n".join(patterns))
    meta = document["metadata"]
    return Manifest(folder, meta.get("namespace", "default"), name, spec)


def deployment(path: str, policy: str) -> PolicyDeploymentSpec:
    """Return the one PolicyDeployment of a policy in a file or a folder.

    Raises:
        UserError: there is none, or several, or it is not valid.
    """
    found = [
        _checked(source, document, PolicyDeploymentSpec, DEPLOYMENT)
        for _, source, document in documents(path)
        if isinstance(document, dict) and document.get("kind") == KIND_DEPLOYMENT
    ]
    of_policy = [spec for _, spec in found if spec.policy == policy]
    if len(of_policy) == 1:
        return of_policy[0]
    if of_policy:
        raise UserError(f"{path} has {len(of_policy)} PolicyDeployments of policy {policy}")
    others = ", ".join(spec.policy for _, spec in found)
    near = f": it has one of {others}" if found else ""
    raise UserError(f"{path} has no PolicyDeployment of policy {policy}{near}")


def _checked(
    source: str, document: dict[str, Any], model: type[Spec], names: Names
) -> tuple[str, Spec]:
    """Return the name and the spec of a resource."""
    kind = document["kind"]
    name = (document.get("metadata") or {}).get("name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{source}: a {kind} has no metadata.name")
    where = f"{source}: {kind} {name}"
    try:
        # By way of JSON, as kubectl does: a text is no number, what looks like a date is a text.
        text = json.dumps(document.get("spec") or {}, default=str)
        spec = model.model_validate_json(text, strict=True)
    except ValidationError as error:
        faults = [f"{where}: {_sentence(fault, model)}" for fault in error.errors()]
        raise UserError("\n".join(faults)) from error
    if not re.fullmatch(DNS_NAME, name):
        raise UserError(f"{where}: metadata.name: {_NO_NAME}")
    if broken := [*rules.broken_names(names, name, spec), *rules.broken(spec)]:
        raise UserError("\n".join(f"{where}: {field}: {said}" for field, said in broken))
    return name, spec


def _sentence(fault: ErrorDetails, model: type[ApiModel]) -> str:
    """Return what is wrong with which field; a field that does not exist has a nearest one."""
    field = "spec"
    for part in fault["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    if fault["type"] != "extra_forbidden":
        return f"{field}: {fault['msg']}"
    near = hint(str(fault["loc"][-1]), _fields(model, fault["loc"][:-1]))
    return f"{field}: there is no such field{near}"


def _fields(model: type[ApiModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the fields that the API has at a place of the spec."""
    for part in place:
        if isinstance(part, int):
            continue
        known = {field.alias: field.annotation for field in model.model_fields.values()}
        found = next(_models(known.get(part)), None)
        if found is None:
            return []
        model = found
    return [str(field.alias) for field in model.model_fields.values()]


def _models(annotation: Any) -> Iterator[type[ApiModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
