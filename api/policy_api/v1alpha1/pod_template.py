"""A pod template that users add to what the operator sets: what the API server can check of it.

`PodTemplate` is what all templates share; each use has the rules of its own container.
"""

from typing import Any

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.keys import GROUP, LABEL_MANAGED_BY

SERVER_CONTAINER = "server"  # name of the container that answers
_KEYS = 64  # labels and annotations
_CONTAINERS = 16

Schema = dict[str, Any]
_WORDS: Schema = {"type": "array", "maxItems": 256, "items": {"type": "string"}}
_CONTEXT: Schema = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "runAsNonRoot": {"type": "boolean", "description": "Only true: no process is root."},
        "privileged": {"type": "boolean", "description": "Only false."},
    },
}
_LIST: Schema = {
    "type": "array",
    "maxItems": _CONTAINERS,
    "items": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 63,
                "description": "A name of the operator's own adds to that container.",
            },
            "image": {"type": "string", "description": "Image of a container of your own."},
            "command": {**_WORDS, "description": "Command of a container of your own."},
            "args": {**_WORDS, "description": "Arguments of a container of your own."},
            "securityContext": {**_CONTEXT, "description": "As in a pod; it can't be weakened."},
        },
    },
}


def _never(field: str) -> dict[str, str]:
    return rule(
        f"!has(self.spec) || !has(self.spec.{field}) || !self.spec.{field}",
        f"spec.{field} can't be true: the pods have no access to the API server or to their node",
    )


def pod_spec() -> Schema:
    """Return the schema of a pod's spec: what rules read is typed, the rest is left to the pod."""
    flags = {
        "automountServiceAccountToken": "Only false: the pods get no token of the API server.",
        "hostIPC": "Only false.",
        "hostNetwork": "Only false.",
        "hostPID": "Only false.",
    }
    return {
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            **{k: {"type": "boolean", "description": text} for k, text in flags.items()},
            "securityContext": {**_CONTEXT, "description": "As in a pod; it can't be weakened."},
            "containers": {
                **_LIST,
                "description": (
                    "Merged by name: the operator's own gets more environment and mounts, others "
                    "run beside it."
                ),
            },
            "initContainers": {**_LIST, "description": "Run before the others, in this order."},
        },
    }


def _ours(part: str) -> dict[str, str]:
    return rule(
        f"!has(self.metadata) || !has(self.metadata.{part}) || !self.metadata.{part}.exists(k, "
        f"k.startsWith('{GROUP}/') || k == '{LABEL_MANAGED_BY}')",
        f"metadata.{part}: {LABEL_MANAGED_BY} and all of {GROUP} are the operator's own",
    )


class TemplateMetadata(ApiModel):
    """Labels and annotations of the pods."""

    labels: dict[str, str] | None = Field(
        default=None, max_length=_KEYS, description="Labels beside the operator's own."
    )
    annotations: dict[str, str] | None = Field(
        default=None, max_length=_KEYS, description="Annotations of the pods."
    )


TEMPLATE_RULES = (
    _ours("labels"),
    _ours("annotations"),
    *(_never(f) for f in ("automountServiceAccountToken", "hostNetwork", "hostPID", "hostIPC")),
    rule(
        "!has(self.spec) || !has(self.spec.securityContext) || "
        "!has(self.spec.securityContext.runAsNonRoot) || self.spec.securityContext.runAsNonRoot",
        "spec.securityContext.runAsNonRoot can't be false",
    ),
)


def elsewhere(container: str, image: str) -> tuple[dict[str, str], ...]:
    """Return the rules about the container that we set: its command and its image.

    Args:
        container: Its name.
        image: The field that has its image.
    """
    beside = (
        "!has(self.spec) || !has(self.spec.containers) || "
        f"self.spec.containers.all(c, c.name != '{container}'"
    )
    return (
        rule(
            f"{beside} || !(has(c.command) || has(c.args)))",
            f"the command of container {container} is the operator's: set neither command nor args",
        ),
        rule(
            f"{beside} || !has(c.image))",
            f"set the image of container {container} in {image}",
        ),
    )


class PodTemplate(ApiModel):
    """What pods have beside what the operator sets, as in a Deployment's or a Job's template."""

    model_config = rules(*TEMPLATE_RULES)

    metadata: TemplateMetadata | None = Field(
        default=None, description="Labels and annotations of the pods."
    )
    spec: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Fields of a pod's spec, merged with what the operator sets; lists of named objects "
            "merge by name, as in `kubectl patch`."
        ),
        json_schema_extra=pod_spec(),
    )


class ServerTemplate(PodTemplate):
    """What the server pods have beside what the operator sets."""

    model_config = rules(*TEMPLATE_RULES, *elsewhere(SERVER_CONTAINER, "spec.server.image"))
