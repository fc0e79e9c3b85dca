"""Which keys an object concerns: whose reconcile must run when the object changes."""

from collections import defaultdict
from collections.abc import Iterator

from policy_api.keys import KIND_DEPLOYMENT, KIND_TRAINING, LABEL_DEPLOYMENT, LABEL_TRAINING

from policy_operator.machinery.cache import Id, Obj, object_id
from policy_operator.machinery.queue import Key


def _names(kind: str, obj: Obj) -> Iterator[tuple[str, str]]:
    """Name what a training or a deployment depends on, as (kind or policy, name)."""
    spec = obj.get("spec") or {}
    if kind == KIND_TRAINING:
        yield from _needs(spec)
    elif kind == KIND_DEPLOYMENT:
        if ref := (spec.get("target") or {}).get("training"):
            yield KIND_TRAINING, ref["name"]
        if policy := spec.get("policy"):
            yield "policy", policy
        yield from ((KIND_DEPLOYMENT, name) for name in _asked(spec))


def _asked(spec: Obj) -> Iterator[str]:
    """Name the deployments whose servers a deployment's servers ask."""
    for route in (spec.get("server") or {}).get("routes") or ():
        if then := route.get("then"):
            yield then["deployment"]
    if scoring := spec.get("scoring"):
        yield scoring["deployment"]


def named_trainings(spec: Obj) -> Iterator[str]:
    """Name the trainings that a training needs."""
    for part in (
        spec.get("base"),
        spec.get("judge"),
        *(spec.get("referenceModels") or {}).values(),
    ):
        if isinstance(part, dict) and (ref := part.get("training")):
            yield ref["name"]


def _needs(spec: Obj) -> Iterator[tuple[str, str]]:
    """Name the trainings, and the policies whose versions, a training needs."""
    policy = spec.get("policy", "")
    yield from ((KIND_TRAINING, name) for name in named_trainings(spec))
    if "version" in (spec.get("base") or {}) or any(
        c.get("against", "").startswith("version:") for c in spec.get("exitCriteria") or ()
    ):
        yield "policy", policy
    references = (spec.get("referenceModels") or {}).values()
    for reference in (r for r in references if isinstance(r, dict)):
        if ref := reference.get("version"):
            yield "policy", ref["policy"]


class Relations:
    """Who waits for whom, kept up to date by every event of a training or a deployment."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str, str], set[Key]] = defaultdict(set)
        self._wants: dict[Key, set[tuple[str, str, str]]] = {}

    def learn(self, kind: str, obj: Obj, *, deleted: bool) -> None:
        """Note what a training or deployment refers to."""
        if kind not in (KIND_TRAINING, KIND_DEPLOYMENT):
            return
        namespace, name = object_id(obj)
        key = Key(kind, namespace, name)
        wants = set() if deleted else {(namespace, what, n) for what, n in _names(kind, obj)}
        for gone in self._wants.get(key, set()) - wants:
            waiting = self._waiting[gone]
            waiting.discard(key)
            if not waiting:
                del self._waiting[gone]
        for new in wants:
            self._waiting[new].add(key)
        if wants:
            self._wants[key] = wants
        else:
            self._wants.pop(key, None)

    def _waiters(self, namespace: str, what: str, name: str) -> set[Key]:
        return self._waiting.get((namespace, what, name), set())

    def concerned(self, kind: str, obj: Obj) -> set[Key]:
        """Return the keys to reconcile after a change of the object."""
        namespace, name = ident = object_id(obj)
        if kind == KIND_TRAINING:
            return {
                Key(KIND_TRAINING, namespace, name),
                *self._waiters(namespace, KIND_TRAINING, name),
            }
        if kind == KIND_DEPLOYMENT:
            return {
                Key(KIND_DEPLOYMENT, namespace, name),
                *self._waiters(namespace, KIND_DEPLOYMENT, name),
            }
        if kind == "PolicyVersion":
            spec = obj["spec"]
            training = spec["training"]["name"]
            # A deployment that was deleted while nobody watched is still named here.
            serving = (obj.get("status") or {}).get("serving") or ()
            return {
                *(Key(KIND_DEPLOYMENT, namespace, s["deployment"]) for s in serving),
                Key(KIND_TRAINING, namespace, training),
                *self._waiters(namespace, KIND_TRAINING, training),
                *self._waiters(namespace, "policy", spec["policy"]),
            }
        return _by_labels(ident, obj)


def _by_labels(ident: Id, obj: Obj) -> set[Key]:
    labels = obj["metadata"].get("labels") or {}
    keys = set()
    if LABEL_TRAINING in labels:
        keys.add(Key(KIND_TRAINING, ident[0], labels[LABEL_TRAINING]))
    if LABEL_DEPLOYMENT in labels:
        keys.add(Key(KIND_DEPLOYMENT, ident[0], labels[LABEL_DEPLOYMENT]))
    return keys
