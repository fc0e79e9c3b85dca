"""A user's pod template merged under what we must set: Kubernetes' strategic merge. Pure.

Lists of named objects merge item by item, by the key that the Kubernetes API names for them; any
other list is one value. What we have set stays: a template that says otherwise is refused, with the
path of what it says. What we have not set is the user's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_api.keys import GROUP, LABEL_MANAGED_BY
from policy_api.rules.pod_security import CONTAINERS, dict_of, hardened, objects, weakened

Obj = dict[str, Any]

# `patchMergeKey` of PodSpec's and Container's fields, k8s.io/api/core/v1/types.go. Lists without
# one (command, tolerations, envFrom) are replaced as a whole there.
MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
# Of these an item is one choice: a second one beside ours (`valueFrom` beside `value`, another kind
# of volume) would contradict it.
_CHOICES = ("env", "ports", "volumeMounts", "volumes")
# Sources are looked through in their order: ours come first, and lose to names that follow.
_APPENDED = ("envFrom",)


class TemplateError(ValueError):
    """The template can't be merged; the text is one sentence with the path and what to change."""


@dataclass(frozen=True)
class Terms:
    """What may be said about the fields that we set. Paths are relative to the template.

    An item of a list is named by its key, e.g. `spec.containers[server].imagePullPolicy`.
    """

    place: str
    """Where the user writes the template, e.g. `spec.server.template`."""
    free: frozenset[str] = frozenset()
    """Fields of ours that the template may set to anything."""
    least: frozenset[str] = frozenset()
    """Numbers of ours that the template may raise."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Fields that the template may not have at all, and what to do instead."""


def merge(ours: Obj, theirs: Obj, terms: Terms) -> Obj:
    """Return our pod template with what the user's adds to it.

    Args:
        ours: What we must set; its containers come first.
        theirs: The user's template: `metadata` (labels, annotations) and `spec`.
        terms: What they may change of ours.

    Raises:
        TemplateError: they contradict what we must set, or take the pod's protection away.
    """
    _refuse_strangers(theirs, terms)
    for path, instead in terms.elsewhere.items():
        if _at(theirs, path) is not None:
            raise TemplateError(f"{terms.place}.{path} can't be set: {instead}")
    if (path_ := next(weakened(theirs), None)) is not None:
        raise TemplateError(
            f"{terms.place}.{path_} takes away protection that every pod of ours has: remove it"
        )
    merged = _object(ours, theirs, "", terms)
    return {**merged, "spec": _hardened(merged["spec"], ours["spec"])}


def _refuse_strangers(theirs: Obj, terms: Terms) -> None:
    """Refuse labels and annotations of our own group, and what is no template."""
    for key in theirs:
        if key not in ("metadata", "spec"):
            raise TemplateError(f"{terms.place}.{key} is unknown: a template has metadata and spec")
    for key in dict_of(theirs.get("metadata")):
        if key not in ("labels", "annotations"):
            raise TemplateError(
                f"{terms.place}.metadata.{key} can't be set: only labels and annotations can"
            )
        for name in dict_of(theirs["metadata"][key]):
            if name.startswith(f"{GROUP}/") or name == LABEL_MANAGED_BY:
                raise TemplateError(
                    f"{terms.place}.metadata.{key}[{name}] is the operator's own: remove it"
                )


def _object(ours: Obj, theirs: Obj, path: str, terms: Terms, *, choice: bool = False) -> Obj:
    """Merge two objects; of a choice no field may be added."""
    made = dict(ours)
    for key, value in theirs.items():
        where = f"{path}.{key}" if path else key
        if key.startswith("$"):
            raise TemplateError(f"{terms.place}.{where} is unknown: write the fields themselves")
        if value is None:
            continue  # as if it were not there
        if key not in ours:
            if choice:
                raise _contradicts(terms, where, "what is already set there")
            made[key] = _clean(value, where, terms)
        else:
            made[key] = _value(ours[key], value, key, where, terms)
    return made


def _clean(value: Any, path: str, terms: Terms) -> Any:
    """Return a value that meets nothing of ours, without what is null."""
    if isinstance(value, dict):
        return _object({}, value, path, terms)
    if isinstance(value, list):
        return [_clean(item, f"{path}[{i}]", terms) for i, item in enumerate(value)]
    return value


def _value(ours: Any, theirs: Any, key: str, path: str, terms: Terms) -> Any:
    """Merge two values of one field."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return _object(ours, theirs, path, terms)
    if isinstance(ours, list) and isinstance(theirs, list):
        if key in _APPENDED:
            return [*ours, *(_clean(item, path, terms) for item in theirs)]
        if key in MERGE_KEYS:
            return _list(ours, theirs, key, path, terms)
    if ours == theirs or path in terms.free:
        return theirs
    if path in terms.least and _is_number(theirs):
        if theirs > ours:
            return theirs
        raise TemplateError(f"{terms.place}.{path} must be {ours} or more")
    raise _contradicts(terms, path, f"it to {_short(ours)}")


def _list(
    ours: Sequence[Obj], theirs: Sequence[Any], key: str, path: str, terms: Terms
) -> list[Obj]:
    """Merge two lists of named objects: ours first, in their order."""
    by = MERGE_KEYS[key]
    made = {_id(item[by]): item for item in ours}
    new: list[Obj] = []
    for index, item in enumerate(theirs):
        if not isinstance(item, dict) or not isinstance(item.get(by), str | int):
            raise TemplateError(f"{terms.place}.{path}[{index}] has no {by}: set it")
        name = _id(item[by])
        where = f"{path}[{name}]"
        if name in made:
            made[name] = _object(made[name], item, where, terms, choice=key in _CHOICES)
        else:
            new.append(_object({}, item, where, terms))
    return [*made.values(), *new]


def _id(value: str | int) -> str | int:
    """Return the key of an item of a list; a path is the same with a slash at its end."""
    return value.rstrip("/") or "/" if isinstance(value, str) else value


def _contradicts(terms: Terms, path: str, what: str) -> TemplateError:
    return TemplateError(f"{terms.place}.{path} can't be set: the operator sets {what}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits in one sentence


def _at(template: Obj, path: str) -> Any:
    """Return the value at a path, or None."""
    here: Any = template
    for part in path.split("."):
        key, _, name = part.partition("[")
        here = here.get(key) if isinstance(here, dict) else None
        if name and isinstance(here, list):
            by = MERGE_KEYS[key]
            here = next(
                (i for i in here if isinstance(i, dict) and str(i.get(by)) == name[:-1]), None
            )
    return here


def _hardened(spec: Obj, ours: Obj) -> Obj:
    """Give the user's own containers the protection that a pod security standard asks for."""
    made = dict(spec)
    for key in CONTAINERS:
        if key in spec:
            mine = [c["name"] for c in ours.get(key) or ()]
            made[key] = [c if c.get("name") in mine else hardened(c) for c in objects(spec[key])]
    return made
