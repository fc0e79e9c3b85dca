"""What an object may be called: other objects are named after it, by rules of their own.

A training makes the Job `<name>-<attempt>`, whose pods have host names `<job>-<rank>`, and with
several nodes a Service of the Job's name. A deployment makes the Service `<name>-v<version>`. All
of these are DNS labels of at most 63 characters, and a Service's begins with a letter (RFC 1035).
"""

from dataclasses import dataclass
from typing import Any

from policy_api.base import on_creation
from policy_api.v1alpha1.inputs import NAME_LIMIT, ReferenceModels

_NAME = ".metadata.name"
_NO_DOTS = "!self.metadata.name.contains('.')"
_LETTER_FIRST = "self.metadata.name.matches('^[a-z]')"


@dataclass(frozen=True)
class Names:
    """The rules of one kind."""

    limit: int  # characters
    rules: tuple[dict[str, Any], ...]


def _not_itself(*path: str) -> dict[str, Any]:
    """Refuse a training that names itself where another one belongs."""
    place, asked = "self.spec", []
    for part in path:
        place += f".{part}"
        asked.append(f"has({place})")
    same = f"{place}.name == self.metadata.name"
    return on_creation(
        f"!({' && '.join([*asked, same])})",
        "a PolicyTraining can't wait for itself: name another one",
        f".spec.{'.'.join(path)}.name",
    )


TRAINING = Names(
    NAME_LIMIT,
    (
        on_creation(
            _NO_DOTS,
            "must have no dots: a PolicyTraining's Jobs and their pods' hosts are named after it",
            _NAME,
        ),
        on_creation(
            f"{_LETTER_FIRST} || !has(self.spec.compute) || !has(self.spec.compute.nodes) "
            "|| self.spec.compute.nodes == 1",
            "must begin with a letter when compute.nodes is above 1: a Service is named after it",
            _NAME,
        ),
        _not_itself("base", "training"),
        _not_itself("judge", "training"),
        *(_not_itself("referenceModels", r, "training") for r in ReferenceModels.model_fields),
    ),
)

DEPLOYMENT = Names(
    40,
    (
        on_creation(
            f"{_NO_DOTS} && {_LETTER_FIRST}",
            "must begin with a letter and have no dots: a PolicyDeployment's Services are named "
            "after it",
            _NAME,
        ),
    ),
)

VERSION = Names(63, ())  # the operator names them, <policy>-v<version>
