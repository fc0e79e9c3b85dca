"""A small network as arrays: linear layers with one activation between them. Numpy alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np

Numbers = Any  # numpy.ndarray


class Activation(StrEnum):
    """What stands between two layers; named as ONNX names it."""

    RELU = "Relu"
    TANH = "Tanh"


@dataclass(frozen=True)
class Layers:
    """Weights of a network that was learned."""

    linear: tuple[tuple[Numbers, Numbers], ...]
    """(out, in) and (out,) of each layer."""
    activation: Activation

    @property
    def hidden(self) -> list[int]:
        """Widths of the layers between input and output."""
        return [len(bias) for _, bias in self.linear[:-1]]

    def apply(self, rows: Numbers) -> Numbers:
        """Return the outputs of inputs: (rows, out) of (rows, in), in the precision of both.

        A row's outputs are the same bits whatever rows are beside it, so what is served is what was
        judged: a BLAS chooses how it adds up by the shape of the whole, einsum does not.
        """
        between = np.tanh if self.activation is Activation.TANH else lambda x: np.maximum(x, 0)
        found = rows
        for number, (weights, bias) in enumerate(self.linear):
            found = between(found) if number else found
            found = np.einsum("ri,oi->ro", found, weights) + bias
        return found

    def write(self, file: Path) -> None:
        """Write the weights as safetensors, named as torch's Sequential of linear layers would."""
        from safetensors.numpy import save_file  # noqa: PLC0415 - with torch's imports

        tensors = {}
        for number, (weights, bias) in enumerate(self.linear):
            tensors[f"{number}.weight"] = np.ascontiguousarray(weights)
            tensors[f"{number}.bias"] = np.ascontiguousarray(bias)
        save_file(tensors, file)

    @classmethod
    def read(cls, file: Path, activation: Activation) -> Self:
        """Read what `write` wrote."""
        from safetensors.numpy import load_file  # noqa: PLC0415 - see write

        return cls.of(load_file(file), activation)

    @classmethod
    def of(cls, tensors: Mapping[str, Numbers], activation: Activation) -> Self:
        """Return the network of weights by their names, see `write`."""
        pairs = range(len(tensors) // 2)
        return cls(tuple((tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in pairs), activation)
