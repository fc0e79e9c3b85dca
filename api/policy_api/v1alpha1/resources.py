"""Requests and limits of a container, and which of them are GPUs."""

from typing import Any

from policy_api.base import rule

# As controller-gen writes it for every Go type resource.Quantity.
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|"
    r"([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
RESOURCE_PARTS = ("requests", "limits")
_NAMES = 16

NVIDIA_GPU = "nvidia.com/gpu"  # what compute.gpusPerNode asks for
# What device plugins call a GPU; Intel's has other resources beside these, which are none.
GPUS = (
    NVIDIA_GPU,
    "nvidia.com/gpu.shared",
    "amd.com/gpu",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
)
GPU_SLICE = "nvidia.com/mig-"  # …and a part of one, such as nvidia.com/mig-1g.10gb


def is_gpu(name: str) -> bool:
    """Whether a resource of this name is a GPU, or a slice of one."""
    return name in GPUS or name.startswith(GPU_SLICE)


def resources_schema() -> dict[str, Any]:
    """Return the schema of `resources`: what is beside requests and limits is left to the pod."""
    quantity = {"x-kubernetes-int-or-string": True, "pattern": QUANTITY, "maxLength": 64}
    parts = {"requests": "What each pod is given.", "limits": "What each pod may use at most."}
    return {
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            part: {
                "type": "object",
                "description": f"{description} By name: cpu, memory, {NVIDIA_GPU}…",
                "maxProperties": _NAMES,
                "additionalProperties": quantity,
            }
            for part, description in parts.items()
        },
    }


def _any(resources: str, test: str) -> str:
    """Return CEL: whether requests or limits have a name `k` that passes a test."""
    parts = [
        f"(has({resources}.{part}) && {resources}.{part}.exists(k, {test}))"
        for part in RESOURCE_PARTS
    ]
    return f"(has({resources}) && ({' || '.join(parts)}))"


_OTHERS = ", ".join(f"'{name}'" for name in GPUS if name != NVIDIA_GPU)
_IS_OTHER = f"k in [{_OTHERS}] || k.startsWith('{GPU_SLICE}')"


def names_gpu(resources: str) -> str:
    """Return CEL: whether resources name a GPU.

    Args:
        resources: The CEL path of the resources, e.g. `self.compute.resources`.
    """
    return _any(resources, f"k == '{NVIDIA_GPU}' || {_IS_OTHER}")


_SAME = [
    f"(!has(self.resources.{part}) || !('{NVIDIA_GPU}' in self.resources.{part}) || "
    f"string(self.resources.{part}['{NVIDIA_GPU}']) == string(self.gpusPerNode))"
    for part in RESOURCE_PARTS
]

# Rules of `compute`.
GPU_RULES = [
    rule(
        "!has(self.gpusPerNode) || self.gpusPerNode == 0 || !has(self.resources) || "
        f"({' && '.join(_SAME)})",
        f"gpusPerNode and {NVIDIA_GPU} of resources differ: set one of them, or both the same",
    ),
    rule(
        f"!has(self.gpusPerNode) || self.gpusPerNode == 0 || !{_any('self.resources', _IS_OTHER)}",
        f"gpusPerNode asks for {NVIDIA_GPU}, and resources for other GPUs: leave one of them unset",
    ),
]
